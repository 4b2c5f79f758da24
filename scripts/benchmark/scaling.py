"""Measure training on 1, 2, 4, ... GPUs of this machine: images per second, and the share of n times one GPU.

The batch is that of each GPU. Without a GPU, 1 and 2 processes on the CPU are measured on small images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from network.synchronization import synchronize
from scripts.benchmark.timing import machine
from scripts.benchmark.train import ISW, ROWS, WARM_UP, Setting, make_batch, make_trainer, timed_steps
from utils import distributed
from utils.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network")
    parser.add_argument("--wt_layer", nargs="*", type=int, default=list(ISW), help="norm codes")
    parser.add_argument("--batch", type=int, default=8, help="images per process and step")
    parser.add_argument("--crop_size", type=int, help="px; default: 768 on a GPU, 64 otherwise")
    parser.add_argument(
        "--rows", nargs="*", choices=("default", "fast"), default=["default", "fast"], help="rows to measure"
    )
    parser.add_argument(
        "--processes", nargs="*", type=int, help="numbers of processes; default: powers of two"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    """Print the table; in a process that `measure` has launched, write the seconds of a step to --json."""
    if "RANK" in os.environ:
        work(args)
        return
    most = torch.cuda.device_count() or 2
    counts = args.processes or [2**n for n in range(most.bit_length()) if 2**n <= most]
    print(f"{machine()}, {args.arch}, wt_layer {args.wt_layer}, {args.batch} images per process", flush=True)
    print(f"{'':12}{'processes':>10}{'images/s':>10}{'ms/step':>10}{'share %':>10}")
    rows = []
    for name in args.rows:
        for count in counts:
            step = measure(args, name, count)
            rate = count * args.batch / step
            row = {"title": name, "processes": count, "images_per_second": rate, "ms_per_step": 1e3 * step}
            rows.append(row)
            first = rows[-1 - counts.index(count)]
            row["share"] = rate / first["images_per_second"] / count * first["processes"]
            print(f"{name:12}{count:10}{rate:10.1f}{1e3 * step:10.2f}{100 * row['share']:10.1f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def measure(args: argparse.Namespace, name: str, count: int) -> float:
    """Return the seconds per step of `count` processes."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "seconds.json")
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        flags = ["--rows", name, "--batch", args.batch, "--steps", args.steps, "--json", result]
        flags += ["--crop_size", args.crop_size] if args.crop_size else []
        flags += ["--arch", args.arch, "--wt_layer", *args.wt_layer]
        command = [sys.executable, *launch, "-m", "scripts.benchmark", "scaling", *map(str, flags)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{count} processes failed: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(result.read_text())


def work(args: argparse.Namespace) -> None:
    """Measure the steps of one process among several."""
    device = distributed.init()
    (name,), size = args.rows, distributed.world_size()
    parts = ROWS[name]
    if device.type == "cpu":  # as --fast leaves these out there
        parts = {key: value for key, value in parts.items() if key not in ("compile", "cuda_graph")}
    crop = args.crop_size or (768 if device.type == "cuda" else 64)
    setting = Setting(args.arch, args.wt_layer, args.batch, crop)
    trainer = make_trainer(setting, device, parts)
    if size > 1:
        synchronize(trainer.net)
        trainer.join()
    batch = make_batch(setting, device)
    timed_steps(trainer, batch, WARM_UP)
    step = timed_steps(trainer, batch, args.steps)
    if distributed.is_main():
        args.json.write_text(json.dumps(step))
