"""Measure training on 1, 2, 4, ... GPUs of this machine: images per second, and the share of n times one GPU.

The batch is that of each GPU. Without a GPU, 1 and 2 processes on the CPU are measured on small images, and
nothing is compiled or captured.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from network.synchronization import synchronize
from scripts.benchmark.timing import machine
from scripts.benchmark.train import ISW, ROWS, WARM_UP, Setting, make_batch, make_trainer, timed_steps
from utils import distributed
from utils.errors import UserError

MEASURED = "measured "  # begins a line of a process that `measure` has launched


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network")
    parser.add_argument("--wt_layer", nargs="*", type=int, default=list(ISW), help="norm codes")
    parser.add_argument("--batch", type=int, default=8, help="images per process and step")
    parser.add_argument("--crop_size", type=int, help="px; default: 768 on a GPU, 64 otherwise")
    parser.add_argument(
        "--rows",
        nargs="*",
        choices=list(ROWS),
        default=["default", "default, cuda_graph", "fast"],
        help="rows to measure",
    )
    parser.add_argument(
        "--processes", nargs="*", type=int, help="numbers of processes; default: powers of two"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured, three times")
    parser.add_argument("--limit", type=float, default=900, help="s for all rows of a number of processes")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    """Print the table; in a process that `measure` has launched, the seconds of a step of each row."""
    if "RANK" in os.environ:
        work(args)
        return
    most = torch.cuda.device_count() or 2
    counts = args.processes or [2**n for n in range(most.bit_length()) if 2**n <= most]
    print(f"{machine()}, {args.arch}, wt_layer {args.wt_layer}, {args.batch} images per process", flush=True)
    print(f"{'':34}{'processes':>10}{'images/s':>10}{'ms/step':>10}{'share %':>10}")
    rows, of_one = [], dict[str, float]()  # images per second of one process, by row
    for count in counts:
        for name, step in measure(args, count):
            rate = count * args.batch / step
            share = rate / count / of_one.setdefault(name, rate / count)
            row = {"title": name, "processes": count, "images_per_second": rate, "ms_per_step": 1e3 * step}
            rows.append(row | {"share": share})
            print(f"{name:34}{count:10}{rate:10.1f}{1e3 * step:10.2f}{100 * share:10.1f}", flush=True)
            if args.json:
                args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def measure(args: argparse.Namespace, count: int) -> Iterator[tuple[str, float]]:
    """Yield the name and the seconds per step of each row, on `count` processes of one launch."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    flags = ["--batch", args.batch, "--steps", args.steps, "--arch", args.arch]
    flags += ["--crop_size", args.crop_size] if args.crop_size else []
    flags += ["--wt_layer", *args.wt_layer, "--rows", *args.rows]
    command = [sys.executable, *launch, "-m", "scripts.benchmark", "scaling", *map(str, flags)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        late = threading.Timer(args.limit, process.terminate)  # torchrun then ends its processes
        late.daemon = True
        late.start()
        for line in process.stdout:
            if line.startswith(MEASURED):
                yield json.loads(line.removeprefix(MEASURED))
        code = process.wait()
        if not late.is_alive():
            raise UserError(f"{count} processes are not done after {args.limit:g} s; see --limit")
        late.cancel()
        if code:
            raise UserError(f"{count} processes failed; their errors are above")


def work(args: argparse.Namespace) -> None:
    """Measure the steps of one process among several."""
    device = distributed.init()
    crop = args.crop_size or (768 if device.type == "cuda" else 64)
    setting = Setting(args.arch, args.wt_layer, args.batch, crop)
    batch = make_batch(setting, device)
    for name in args.rows:
        parts = ROWS[name]
        if device.type == "cpu":  # as --fast leaves these out there
            parts = {key: value for key, value in parts.items() if key not in ("compile", "cuda_graph")}
        trainer = make_trainer(setting, device, parts)
        if distributed.world_size() > 1:
            synchronize(trainer.net)
            trainer.join()
        timed_steps(trainer, batch, WARM_UP)
        times = [timed_steps(trainer, batch, args.steps) for _ in range(3)]
        if distributed.is_main():
            print(MEASURED + json.dumps([name, sorted(times)[1]]), flush=True)
        del trainer
        torch.compiler.reset()
        gc.collect()  # frees its graph and memory
