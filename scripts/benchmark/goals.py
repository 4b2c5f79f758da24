"""Measure every setting whose speed this project has a goal for, and print one table.

"published" is the speed of the published code on an H100 80GB with torch 2.11, as measured for this project:
whole steps on crops of 768 px that are on the card, float32. "default" and "fast" are this code on this
machine, without flags and with --fast; for evaluation they are float32 and bf16. "to reach" are the goals,
which were set for the H100. All compiled steps are compiled at the same time, each in a process of its own,
then measured one after the other.
"""

import argparse
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from network import get_net
from network.folding import PRECISIONS, Folded
from scripts.benchmark import scaling
from scripts.benchmark.disk import measure_disk
from scripts.benchmark.eval import eval_images, evaluated, loaded
from scripts.benchmark.statistics import measure_statistics
from scripts.benchmark.streets import write_streets
from scripts.benchmark.timing import machine, timing
from scripts.benchmark.train import ISW, Setting, measure
from utils.evaluation.inference import window_batcher
from utils.training.speed import loader_workers

FORMS = ("default", "fast")
NONE = (0,) * 7


class Goal(NamedTuple):
    """What is known of one row; a speed is in images per second, a time in seconds."""

    title: str
    published: float | None
    default: float | None = None  # to reach
    fast: float | None = None
    setting: Setting = Setting()


STEPS = (
    Goal("ResNet-50 OS16 baseline, batch 4", 63.5, None, 220, Setting(wt_layer=NONE)),
    Goal("ResNet-50 OS16 ISW, batch 4", 54.2, 80, 190),
    Goal("ResNet-50 OS16 ISW, batch 16", 69.0, None, 240, Setting(batch=16)),
    Goal("ResNet-101 OS8 ISW, batch 4", 18.9, None, 60, Setting("DeepR101V3PlusD_OS8")),
    Goal("MobileNetV2 ISW, batch 8", 95.5, None, 320, Setting("DeepMobileNetV3PlusD", batch=8)),
)
SLIDING = Goal("sliding, ISW, 3 scales, mirrored: s/image", 5.3, 0.115, 0.085)
WHOLE = Goal("whole images, ISW, 4 at once", 72, 150, 220)
DISK = {"bytes": 130, "aug_device": 130, "cache_images": 220, "both": 220}
PARTS = ("steps", "eval", "statistics", "disk", "gpus")
Measured = Mapping[str, Any]  # "default" and "fast" of a row, their "gib", and its goal


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="rows to measure")
    parser.add_argument("--arch", help="network of all rows; default: each row's own")
    parser.add_argument("--crop_size", type=int, help="px; default: 768 on a GPU, 64 otherwise")
    parser.add_argument("--root", type=Path, default=Path("data/benchmark"), help="folder of images")
    parser.add_argument("--pairs", type=int, default=200, help="pairs of statistics that are measured")
    parser.add_argument("--workers", type=int, default=loader_workers(), help="loader processes")
    parser.add_argument("--seconds", type=float, default=3, help="time to measure each number")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    cuda = torch.cuda.is_available()
    args.crop_size = args.crop_size or (768 if cuda else 64)
    args.device = torch.device("cuda" if cuda else "cpu")
    if not args.root.exists():
        write_streets(args.root)
    print(f"{machine()}\n{'':44}{'published':>10}{'default':>10}{'fast':>10}{'to reach':>16}{'GiB':>14}")
    measures = {"steps": steps, "eval": evaluation, "statistics": statistics, "disk": disk, "gpus": gpus}
    rows = []
    for part in PARTS:
        for goal, found in measures[part](args) if part in args.parts else ():
            print(line(goal, found), flush=True)
            rows.append(goal._asdict() | {"measured": found})
            if args.json:  # each time, because a later row may fail
                args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1, default=str))


def line(goal: Goal, found: Measured) -> str:
    """Return one line of the table."""

    def text(value: Any, width: int = 10) -> str:
        if value is None:
            return f"{'-':>{width}}"
        return f"{value:>{width}.{3 if value < 10 else 1}f}"

    wanted = " / ".join(text(value, 0) for value in (goal.default, goal.fast))
    memory = " / ".join(text(found.get(f"gib {form}"), 0) for form in FORMS)
    numbers = "".join(text(value) for value in (goal.published, found.get("default"), found.get("fast")))
    return f"{goal.title:44}{numbers}{wanted:>16}{memory:>14}"


def steps(args: argparse.Namespace) -> Iterator[tuple[Goal, Measured]]:
    """Yield the rows of whole training steps, then the cost of ISW as a share of the baseline's step."""
    jobs = {}
    for goal in STEPS:
        setting = goal.setting._replace(crop=args.crop_size, arch=args.arch or goal.setting.arch)
        for form in FORMS if args.device.type == "cuda" else FORMS[:1]:
            jobs[goal.title, form] = partial(measure, form, setting, args.device, args.seconds)
    done = together(jobs) if args.device.type == "cuda" else {key: job() for key, job in jobs.items()}
    for goal in STEPS:
        found: dict[str, Any] = {}
        for form in FORMS:
            if row := done.get((goal.title, form)):
                found |= {
                    form: row.images_per_second,
                    f"gib {form}": row.gib,
                    f"first s {form}": row.first_seconds,
                }
        yield goal, found
    shares = {}
    for form in FORMS:
        base, whitened = (done.get((goal.title, form)) for goal in STEPS[:2])
        if base and whitened:
            shares[form] = 100 * (whitened.ms_per_step / base.ms_per_step - 1)
    yield Goal("cost of ISW over baseline, batch 4, %", 17, None, 8), shares


def together(jobs: Mapping[Any, Callable]) -> dict[Any, Any]:
    """Return the rows of `jobs`, which compile at the same time and are measured one after the other."""
    context, started = get_context("spawn"), {}
    for key, job in jobs.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=measured_on_call, args=(job, theirs), daemon=True)
        process.start()
        started[key] = process, ours
    rows = {}
    try:
        for _, pipe in started.values():
            pipe.recv()  # it is compiled
        for key, (process, pipe) in started.items():
            pipe.send("go")
            rows[key] = pipe.recv()
            process.join()
    finally:
        for process, _ in started.values():
            process.kill()
    return rows


def measured_on_call(job: Callable, pipe: Any) -> None:
    """Compile a row, wait to be called, measure and send the row; None if that fails."""
    waited = False

    def wait() -> None:
        nonlocal waited
        waited = True
        pipe.send("compiled")
        pipe.recv()

    try:
        row = job(wait)
    except Exception:  # the other rows are measured all the same
        traceback.print_exc()
        row = None
    if not waited:
        pipe.send("failed")
        pipe.recv()
    pipe.send(row)


@torch.inference_mode()
def evaluation(args: argparse.Namespace) -> Iterator[tuple[Goal, Measured]]:
    """Yield the rows of evaluation, of an ISW network."""
    cuda = args.device.type == "cuda"
    size, crop, batch = ((1024, 2048), 1024, 4) if cuda else ((32, 64), 32, 2)
    flags = {"arch": args.arch or Setting().arch, "wt_layer": list(ISW), "pretrained": "none"}
    net = get_net(argparse.Namespace(**flags)).to(args.device).eval()
    images = eval_images(size, batch, None)
    loader = [loaded(images[:1], args.device)]
    sliding: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for form, precision in zip(FORMS, PRECISIONS, strict=True):
        folded = Folded(net, precision)
        windows = window_batcher(folded, args.device)
        work = partial(evaluated, windows, loader, args.device, {"mode": "sliding", "crop": crop})
        cost = timing(work, args.device, args.seconds)
        sliding |= {form: cost.seconds, f"gib {form}": cost.memory}
        cost = timing(partial(folded, images.to(args.device)), args.device, args.seconds)
        whole |= {form: batch / cost.seconds, f"gib {form}": cost.memory}
    yield SLIDING, sliding
    yield WHOLE, whole


def statistics(args: argparse.Namespace) -> Iterator[tuple[Goal, Measured]]:
    """Yield the time of the whitening statistics: the published form measured here, and this code."""
    options = {"arch": args.arch or Setting().arch, "wt_layer": list(ISW), "pretrained": "none"}
    options |= {"root": args.root, "pairs": args.pairs, "trials": 1, "workers": args.workers}
    published, _, ours = measure_statistics(argparse.Namespace(**options, published_pairs=args.pairs // 10))
    before, after = published.seconds_of_a_run, ours.seconds_of_a_run
    goal = Goal("statistics, 500 pairs x 10: s (published here)", before, before / 6)
    yield goal, {"default": after}


def disk(args: argparse.Namespace) -> Iterator[tuple[Goal, Measured]]:
    """Yield images per second of steps on batches from disk, ISW, batch 16, with --fast."""
    batch = 16 if args.device.type == "cuda" else 2
    options = {"root": args.root, "rows": [*DISK], "images": 8 * batch, "steps": True, "batch": batch}
    options |= {"arch": args.arch or Setting().arch, "crop_size": args.crop_size, "workers": args.workers}
    for row in measure_disk(SimpleNamespace(**options, seconds=args.seconds)):  # type: ignore[arg-type]
        goal = Goal(f"from disk, ISW, batch {batch}: {row.title}", 7, None, DISK[row.title])
        yield goal, {"fast": row.images_per_second, "waited": row.waited}


def gpus(args: argparse.Namespace) -> Iterator[tuple[Goal, Measured]]:
    """Yield the images per second of all GPUs, ISW, batch 8 each, as a share of n times those of one GPU."""
    most = torch.cuda.device_count()
    if most < 2:
        return
    options = {"arch": args.arch or Setting().arch, "wt_layer": list(ISW), "crop_size": args.crop_size}
    rows = ["default", "default, cuda_graph", "fast"]
    options |= {"batch": 8, "rows": rows, "steps": 20, "limit": 900}
    one, several = (dict(scaling.measure(argparse.Namespace(**options), count)) for count in (1, most))
    plain, captured, fast = (100 * one[row] / several[row] for row in rows)
    title = f"{most} GPUs, ISW, batch 8 each"
    yield Goal(f"{title}: % of {most} times one", None, 95, 95), {"default": plain, "fast": fast}
    yield Goal(f"{title}: the same, --cuda_graph", None, 95), {"default": captured}
