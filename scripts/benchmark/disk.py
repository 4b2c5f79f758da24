"""Measure training from disk: how fast loader processes give batches, and how fast steps train on them.

The images are GTAV's in size and encoding, generated if --root does not exist. Crops are class-uniform, with
all augmentation. "float" normalizes in the loaders, so that float32 images and int64 labels travel; in all
other rows bytes do. "images/s" counts images that are on the device. With --steps, each batch is also trained
on, by a network with ISW and the flags of --fast. "waited" is the share of the time that this process waits.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

import config
from datasets.loaders import Loaders, setup_loaders
from datasets.samplers import TrainSampler
from scripts.benchmark.streets import write_streets
from scripts.benchmark.timing import machine
from scripts.benchmark.train import ROWS as SPEED
from scripts.benchmark.train import Setting, make_trainer
from transforms import presets
from utils.training.speed import loader_workers
from utils.training.trainer import Trainer

ROWS: dict[str, tuple[str, ...]] = {  # the flags that differ
    "float": (),
    "bytes": (),
    "aug_device": ("--aug_device", "gpu"),
    "cache_images": ("--cache_images",),
    "both": ("--aug_device", "gpu", "--cache_images"),
}


class Row(NamedTuple):
    """How fast batches come, or steps on them are."""

    title: str
    images_per_second: float
    waited: float  # share of the time


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("data/benchmark"), help="folder of images")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS), help="rows to measure")
    parser.add_argument("--workers", type=int, default=loader_workers(), help="loader processes")
    parser.add_argument("--batch", type=int, default=16, help="images of a batch")
    parser.add_argument("--crop_size", type=int, default=768, help="px")
    parser.add_argument("--images", type=int, default=128, help="files that are read, links to the generated")
    parser.add_argument("--seconds", type=float, default=5, help="time to measure each row")
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network of --steps")
    parser.add_argument("--steps", action="store_true", help="train on the batches")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    if not args.root.exists():
        write_streets(args.root)
    title = f"{machine()}, GTAV, batches of {args.batch}, {args.workers} loader processes"
    print(f"{title}{', with steps' * args.steps}\n{'':24}{'images/s':>10}{'waited %':>10}", flush=True)
    rows = []
    for row in measure_disk(args):
        print(f"{row.title:24}{row.images_per_second:10.1f}{100 * row.waited:10.1f}", flush=True)
        rows.append(row._asdict())
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def measure_disk(args: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows; `args` are the flags of this benchmark."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = SPEED["fast"] if device.type == "cuda" else {}
    setting = Setting(args.arch, batch=args.batch, crop=args.crop_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        link_images(args.root / "gtav", folder / "gtav", args.images)
        trainer: Trainer | None = None
        for title in args.rows:
            loaders = gtav_loaders(title, folder, args)
            if trainer is None:
                trainer = make_trainer(setting, device, parts, loaders)
            trainer.loaders = loaders
            work = trainer.step if args.steps else trainer.to_device
            yield measure(title, loaders.train, work, args.seconds, device)


def measure(
    title: str, loader: DataLoader, work: Callable[[Any], Any], seconds: float, device: torch.device
) -> Row:
    """Return how fast batches are loaded and worked on."""
    batches, count, waited = iter(loader), 0, 0.0
    for _ in range(6 + loader.num_workers * (loader.prefetch_factor or 0)):  # those loaded ahead, too
        work(next(batches))
    start = time.perf_counter()
    while count < 2 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        work(batch)
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    total = time.perf_counter() - start
    return Row(title, count * (loader.batch_size or 1) / total, waited / total)


def link_images(source: Path, target: Path, count: int) -> None:
    """Link the generated images and labels under `count` names."""
    files = sorted((source / "images/train/folder").iterdir())
    for kind in ("images", "labels"):
        (target / kind / "train/folder").mkdir(parents=True)
        for number in range(count):
            file = source / kind / "train/folder" / files[number % len(files)].name
            (target / kind / "train/folder" / f"{number:05}.png").symlink_to(file.resolve())


class Cycled(TrainSampler):
    """One long epoch, which shows every image many times."""

    def order(self) -> np.ndarray:
        return np.tile(super().order(), 10_000)


def gtav_loaders(title: str, folder: Path, args: argparse.Namespace) -> Loaders:
    """Return the loaders that train.py would make with the flags of a row, of one long epoch."""
    flags = ["--dataset", "gtav", "--val_dataset", "null", "--data_root", str(folder), "--color_aug", "0.5"]
    flags += ["--gblur", "--class_uniform_pct", "0.5", "--crop_size", str(args.crop_size)]
    flags += ["--bs_mult", str(args.batch), "--num_workers", str(args.workers)]
    for flag in ROWS[title]:
        flags += [flag, str(folder / "cache")] if flag == "--cache_images" else [flag]
    parsed = config.complete(config.parse_train_args(flags), 1, 19)
    parsed.own_val = []
    loaders = setup_loaders(parsed)
    if title == "float":
        base: Any = loaders.train.dataset.dataset.base  # type: ignore[attr-defined]
        base.transform = presets.Preset(base.transform.joint, base.transform.photometric)
        loaders = loaders._replace(photometric=None)
    old = loaders.train
    train = DataLoader(
        old.dataset,
        old.batch_size,
        sampler=Cycled(len(old.dataset)),  # type: ignore[arg-type]
        num_workers=old.num_workers,
        collate_fn=old.collate_fn,
        pin_memory=old.pin_memory,
        worker_init_fn=old.worker_init_fn,
    )
    return loaders._replace(train=train)
