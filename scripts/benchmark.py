"""Measure what parts of the code cost on this machine.

python -m scripts.benchmark data --root data/benchmark

`data` prints what a training sample costs, one process and one thread, in units of one Pillow decode of the
same image: machines differ, the ratio hardly does. Street-sized images are made from a seed if they are not
there. CPU time is measured, samples and decodes in turn.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datasets import DATASETS
from datasets.base import sample_rng
from datasets.cache import CachedImages
from datasets.class_uniform import ClassUniform, tile_centroids
from datasets.labels import CITYSCAPES
from transforms import presets
from utils.logging import exit_cleanly

SIZES = {"cityscapes": (1024, 2048), "gtav": (1052, 1914)}  # (height, width)
IMAGES = 4
CROP, TILE = 768, 1024


def street(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return shapes of many sizes under sensor noise, which compress about as badly as a photograph."""
    values = rng.normal(110, 4, (height, width, 3))
    for cell, strength in ((512, 60), (128, 40), (32, 25), (8, 15)):
        cells = (height // cell + 2, width // cell + 2, 3)
        coarse = rng.normal(0, strength, cells).astype(np.float32)
        for channel in range(3):
            field = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            values[..., channel] += np.asarray(field)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def segments(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return label ids 0..33 in patches with slanted borders."""
    y, x = np.mgrid[:height, :width]
    patch = (y + x // 3) // 150 * 20 + (x + y // 4) // 130
    return Image.fromarray(rng.integers(0, 34, 1000).astype(np.uint8)[patch])


def write_streets(root: Path) -> None:
    """Write IMAGES training pairs of Cityscapes and of GTAV in their layouts and encodings."""
    rng = np.random.default_rng(0)
    palette = [value for row in sorted(CITYSCAPES, key=lambda row: row.id)[1:] for value in row.color]
    for number in range(IMAGES):
        name = f"aachen_{number:06}_000019"
        files = {
            "cityscapes": (
                f"leftImg8bit/train/aachen/{name}_leftImg8bit.png",
                f"gtFine/train/aachen/{name}_gtFine_labelIds.png",
            ),
            "gtav": (f"images/train/folder/{number:05}.png", f"labels/train/folder/{number:05}.png"),
        }
        for domain, paths in files.items():
            image, label = street(rng, *SIZES[domain]), segments(rng, *SIZES[domain])
            if domain == "gtav":
                label.putpalette(palette)
            for picture, path in zip((image, label), paths, strict=True):
                (root / domain / path).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / domain / path)


def decode(path: Path) -> None:
    """Do what one unit is."""
    with Image.open(path) as image:
        image.convert("RGB")


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(works: list, paths: list[Path]) -> tuple[float, float]:
    """Return the mean cost of `works` in units and one unit in ms; paths[i] is the image of works[i]."""
    pairs = zip(works, paths, strict=True)
    work, unit = np.mean([(seconds(work), seconds(partial(decode, path))) for work, path in pairs], axis=0)
    return work / unit, 1e3 * unit


def measure_samples(dataset, count: int) -> tuple[float, float]:
    """Return the cost of `count` samples, in epochs one after the other."""
    works, images = [], []
    for number in range(count):
        epoch, index = divmod(number, len(dataset))
        dataset.set_epoch(epoch)
        images.append(dataset.samples[index].image)
        works.append(partial(dataset.load, dataset.samples[index], sample_rng(0, epoch, index)))
    return cost(works, images)


def measure_centroids(dataset, count: int) -> tuple[float, float]:
    """Return the cost of the class centroids of `count` images, with reading the label."""
    samples = [dataset.samples[i % len(dataset)] for i in range(count)]
    works = [lambda path=sample.label: tile_centroids(dataset.read_label(path), TILE) for sample in samples]
    return cost(works, [sample.image for sample in samples])


def measure_data(root: Path, count: int) -> None:
    """Print the cost of samples and of class centroids, each over `count` images, for both data sets."""
    torch.set_num_threads(1)
    if not root.exists():
        write_streets(root)
    print(f"{'':44}{'units':>8}{'ms':>9}")
    for name in SIZES:
        for device, cached in (("cpu", False), ("gpu", False), ("cpu", True), ("gpu", True)):
            transform = presets.train(CROP, color_aug=0.5, gblur=True, aug_device=device)
            base = DATASETS[name](root / name, "train", transform)
            with tempfile.TemporaryDirectory() as folder:
                dataset = CachedImages(base, folder) if cached else base
                dataset = ClassUniform(dataset, 0.5, TILE, cache_dir=folder)
                title = f"sample, --aug_device {device}{', cached' * cached}"
                report(name, title, *measure_samples(dataset, count))
        report(name, "class centroids of an image", *measure_centroids(base, count))


def report(name: str, title: str, units: float, unit: float) -> None:
    print(f"{name:12}{title:32}{units:8.2f}{units * unit:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["data"])
    parser.add_argument("--root", type=Path, default=Path("data/benchmark"), help="images, made if missing")
    parser.add_argument("--samples", type=int, default=64, help="per measurement")
    args = parser.parse_args()
    measure_data(args.root, args.samples)


if __name__ == "__main__":
    with exit_cleanly():
        main()
