"""Generated street images, as expensive to decode and to compress as photographs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.labels import CITYSCAPES_LABELS

SIZES = {"cityscapes": (1024, 2048), "gtav": (1052, 1914)}  # (height, width)
IMAGES = 4  # per dataset


def street(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return shapes of many sizes under sensor noise, which compress about as badly as a photograph does."""
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


def write_streets(root: Path, sizes: Mapping[str, tuple[int, int]] = SIZES) -> None:
    """Write IMAGES training pairs of Cityscapes and of GTAV, of `sizes`, in their layouts and encodings."""
    rng = np.random.default_rng(0)
    palette = [value for row in sorted(CITYSCAPES_LABELS, key=lambda row: row.id)[1:] for value in row.color]
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
            if domain not in sizes:
                continue
            image, label = street(rng, *sizes[domain]), segments(rng, *sizes[domain])
            if domain == "gtav":
                label.putpalette(palette)
            for picture, path in zip((image, label), paths, strict=True):
                (root / domain / path).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / domain / path)
