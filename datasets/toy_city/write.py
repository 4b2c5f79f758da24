"""Write the town to disk in the layouts and encodings of the real datasets."""

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.toy_city.adverse import ALL_STYLES, BETAS, GROUPS, expand
from datasets.toy_city.layouts import CITYSCAPES_ID_PALETTE, ENCODINGS, FOLDERS, NO_IMAGES, NO_LABELS, paths
from datasets.toy_city.rendering import add_fog, render
from datasets.toy_city.street import draw_scene
from datasets.toy_city.styles import STYLES
from utils import bars
from utils.errors import UserError

VERSION = 1  # of the pictures: raise it when the same settings give other bytes
MARKER = "toy_city.json"


def write_png16(path: Path, array: np.ndarray) -> None:
    """Write an array (H, W, 3) of 16-bit values as an RGB PNG; Pillow has no such mode."""
    height, width, _ = array.shape
    lines = np.zeros((height, 1 + 6 * width), np.uint8)  # each begins with filter type 0
    lines[:, 1:] = array.astype(">u2").view(np.uint8).reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)  # 16 bits, colour type RGB
    data = zlib.compress(lines.tobytes(), 1)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_pair(root: Path, domain: str, split: str, index: int, size: tuple[int, int], seed: int) -> None:
    """Render image number `index` of a split; write it and its label, if the split has labels."""
    town = domain.removeprefix("foggy_")  # Foggy Cityscapes shows the scenes of Cityscapes
    rng = np.random.default_rng((seed, zlib.crc32(f"{town}/{split}".encode()), index))
    scene = draw_scene(size, rng)
    style = ALL_STYLES[domain]
    image, label = render(scene, style, rng), scene.label[scene.parts]
    image_path, label_path = (
        root / FOLDERS.get(domain, domain) / path for path in paths(domain, split, index)
    )
    image_path.parent.mkdir(parents=True, exist_ok=True)
    if domain == "foggy_cityscapes":
        for beta in BETAS:
            path = image_path.with_name(image_path.name.replace(BETAS[-1], beta))
            add_fog(image, scene, float(beta)).save(path, compress_level=1)
    elif image_path.suffix == ".jpg":
        image.save(image_path, quality=style.jpeg)
    else:
        image.save(image_path, compress_level=1)
    if (domain, split) in NO_LABELS:
        return
    label_path.parent.mkdir(parents=True, exist_ok=True)
    ids = ENCODINGS[domain][label]
    if domain == "synthia":
        write_png16(label_path, np.stack((ids, scene.instance[scene.parts], np.zeros_like(ids)), 2))
        return
    picture = Image.fromarray(ids)
    if domain == "gtav":
        picture.putpalette(CITYSCAPES_ID_PALETTE.tobytes())
    picture.save(label_path)


def is_written(out: Path, settings: dict[str, Any]) -> bool:
    """Return whether `out` holds a complete town of these settings.

    It may hold other data beside it. Raises UserError if it holds another town, or other data in a folder of
    one of the domains.
    """
    marker = out / MARKER
    if marker.is_file():
        written = json.loads(marker.read_text())
        done = written.pop("done")
        if written != settings:
            raise UserError(
                f"{out} holds a toy town with other settings: {written}, asked for {settings}; "
                f"choose another directory, or remove {marker} and the folders of its domains"
            )
        return done
    folders = dict.fromkeys(out / FOLDERS.get(domain, domain) for domain in settings["domains"])
    if taken := [folder for folder in folders if folder.exists()]:
        raise UserError(f"{taken[0]} is not of a toy town ({marker} is missing); choose another directory")
    return False


def write_toy_city(
    out: str | Path,
    *,
    size: tuple[int, int] = (256, 512),
    train: int = 64,
    val: int = 16,
    seed: int = 0,
    domains: Sequence[str] = tuple(STYLES),
) -> Path:
    """Write `train` and `val` pairs of `size` (height, width) per domain to OUT/{domain} and return OUT.

    Any of ALL_STYLES can be written, by default the five domains of STYLES. "acdc" stands for its four
    conditions; each gets as many pairs, and all are in OUT/acdc. A split has what the real one has: the
    training images of Dark Zurich have no labels, and Nighttime Driving has none.

    Does nothing if OUT already holds the same town, and completes an interrupted one. Raises UserError for
    an unknown domain, an impossible size or count, another town, and other data in a domain's folder.
    """
    out = Path(out)
    if unknown := sorted(set(domains) - set(ALL_STYLES) - set(GROUPS)):
        known = ", ".join([*ALL_STYLES, *GROUPS])
        raise UserError(f"unknown domain {', '.join(unknown)}; the toy town has {known}")
    if min(size) < 16 or min(train, val, seed) < 0:
        raise UserError(
            f"size {tuple(size)} must be at least 16 x 16, and train, val, seed {train, val, seed} at least 0"
        )
    names = expand(list(domains))
    settings = {
        "version": VERSION,
        "size": list(size),
        "train": train,
        "val": val,
        "seed": seed,
        "domains": names,
    }
    if is_written(out, settings):
        return out
    out.mkdir(parents=True, exist_ok=True)
    marker = out / MARKER
    marker.write_text(json.dumps(settings | {"done": False}))
    splits = ("train", train), ("val", val)
    jobs = [
        (name, split, i)
        for name in names
        for split, count in splits
        if (name, split) not in NO_IMAGES
        for i in range(count)
    ]
    for domain, split, index in bars.over(jobs, "toy town"):
        write_pair(out, domain, split, index, size, seed)
    marker.write_text(json.dumps(settings | {"done": True}))
    return out
