"""Measure what a training sample costs.

The unit is one decoding of the same image with Pillow, because the ratio hardly depends on the machine.
Everything runs in one process with one thread, and CPU time is measured. Samples and decodings alternate. The
decodings have a process of their own because their cost depends on how much freed memory a process keeps.
Street images are generated if --root does not exist.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets import DATASETS
from datasets.base import sample_rng
from datasets.cache import CachedImages
from datasets.class_uniform import ClassUniform, tile_centroids
from scripts.benchmark.streets import SIZES, write_streets
from transforms import presets
from utils.errors import UserError

CROP, TILE = 768, 1024  # px
Work = Callable[[], object]
Cost = tuple[float, float]  # units, ms of one unit


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, default=Path("data/benchmark"), help="folder of images; generated if missing"
    )
    parser.add_argument("--samples", type=int, default=64, help="samples per measurement")


def run(args: argparse.Namespace) -> None:
    if args.samples < 1:
        raise UserError(f"--samples must be at least 1, not {args.samples}")
    measure_data(args.root, args.samples)


def measure_data(
    root: Path, count: int, *, sizes: Mapping[str, tuple[int, int]] = SIZES, crop: int = CROP
) -> None:
    """Print the cost of samples and of class centroids, each over `count` images, for every dataset."""
    torch.set_num_threads(1)
    if not root.exists():
        write_streets(root, sizes)
    print(f"{'':44}{'units':>8}{'ms':>9}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as decoder:
        for name in sizes:
            measure_domain(name, root / name, count, crop, decoder)


def measure_domain(name: str, root: Path, count: int, crop: int, decoder: Executor) -> None:
    """Print the rows of one dataset."""
    for device, cached in (("cpu", False), ("gpu", False), ("cpu", True), ("gpu", True)):
        transform = presets.levels(presets.train(crop, color_aug=0.5, gblur=True, aug_device=device))
        base = DATASETS[name](root, "train", transform)
        with tempfile.TemporaryDirectory() as folder:
            source = CachedImages(base, folder) if cached else base
            dataset = ClassUniform(source, 0.5, TILE, cache_dir=folder)
            title = f"sample, --aug_device {device}{', cached' * cached}"
            report(name, title, measure_samples(dataset, count, decoder))
    report(name, "class centroids of an image", measure_centroids(base, count, decoder))


def report(name: str, title: str, cost: Cost) -> None:
    units, unit = cost
    print(f"{name:12}{title:32}{units:8.2f}{units * unit:9.1f}")


def measure_samples(dataset: Any, count: int, decoder: Executor) -> Cost:
    """Return the cost of `count` samples from consecutive epochs."""
    works, images = [], []
    for number in range(count):
        epoch, index = divmod(number, len(dataset))
        dataset.set_epoch(epoch)
        images.append(dataset.samples[index].image)
        works.append(partial(dataset.load, dataset.samples[index], sample_rng(0, epoch, index)))
    return mean_cost(works, images, decoder)


def measure_centroids(dataset: Any, count: int, decoder: Executor) -> Cost:
    """Return the cost of the class centroids of `count` images, including reading the labels."""
    samples = [dataset.samples[i % len(dataset)] for i in range(count)]

    def centroids(path: Path) -> None:
        tile_centroids(dataset.read_label(path), TILE)

    works = [partial(centroids, sample.label) for sample in samples]
    return mean_cost(works, [sample.image for sample in samples], decoder)


def mean_cost(works: Sequence[Work], images: Sequence[Path], decoder: Executor) -> Cost:
    """Return the mean cost of `works` in units, and one unit in ms; images[i] is the image of works[i]."""
    costs = []
    decoder.submit(decode, images[0]).result()  # the first decoding is slow
    for work, path in zip(works, images, strict=True):
        costs.append((cpu_seconds(work), decoder.submit(cpu_seconds, partial(decode, path)).result()))
    seconds, unit = np.mean(costs, axis=0)
    return seconds / unit, 1e3 * unit


def decode(path: Path) -> None:
    """Do the work of one unit."""
    with Image.open(path) as image:
        image.convert("RGB")


def cpu_seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
