"""GTAV, "Playing for Data" (Richter et al., ECCV 2016, arXiv 1608.02192)."""

import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.base import Layout, Sample, SegmentationDataset
from datasets.labels import GTAV_COLOR_TO_TRAIN_ID, IGNORE_LABEL, INVALID, UNSCORED_COLORS


class GTAV(SegmentationDataset):
    """GTAV, whose labels are palette images in Cityscapes' colours; copies in plain RGB are read too.

    Classes follow the colours, never the palette's indices. A flat download is split by split_data/. Pairs of
    different sizes, of which the release has some, are left out when listing.
    """

    name = "gtav"
    folders = {"val": "valid"}
    layouts = (Layout("images/{split}", "labels/{split}"), Layout("images", "labels", flat=True))

    def find_samples(self) -> list[Sample]:
        samples = super().find_samples()
        with ThreadPoolExecutor(8) as pool:
            sizes = pool.map(lambda sample: (png_size(sample.image), png_size(sample.label)), samples)
        differ = {
            sample: f"{sample.image} is {image}, {sample.label} {label}"
            for sample, (image, label) in zip(samples, sizes, strict=True)
            if image and label and image != label  # a damaged header is named when the file is read
        }
        self.skip(list(differ.values()), "image and label differ in size")
        return [sample for sample in samples if sample not in differ]

    def label_ids(self, image: Image.Image) -> np.ndarray:
        """Return train ids already, as indices mean what the file's own palette says."""
        if image.mode not in ("P", "RGB", "RGBA"):
            raise ValueError(f"a GTAV label is a palette or RGB image, this one is {image.mode}")
        if image.mode == "P":
            colors = np.array(image.getpalette("RGB")).reshape(-1, 3)
            table = np.full(256, INVALID, np.uint8)
            table[: len(colors)] = color_table()[pack(colors)]
            label = np.asarray(image.point(table.tolist()))
        else:
            image = image.convert("RGB")
            label = color_table().take(pack(np.asarray(image)))
        unknown = label == INVALID
        if unknown.any():
            value = np.asarray(image)[unknown][0]
            if image.mode == "P" and value >= len(colors):
                raise ValueError(f"it uses index {value}, which its palette does not have")
            color = colors[value] if image.mode == "P" else value
            raise ValueError(f"colour {color.tolist()} is not one of the Cityscapes table")
        return label

    def train_ids(self, values: np.ndarray) -> np.ndarray:
        return values


def pack(colors: np.ndarray) -> np.ndarray:
    """Return the 24-bit number of each colour: (..., 3) -> (...)."""
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


@cache
def color_table() -> np.ndarray:
    """Return uint8 (2^24,): 24-bit colour -> train id, 255 if unscored, INVALID if no class has it."""
    table = np.full(1 << 24, INVALID, np.uint8)
    table[pack(np.array(sorted(UNSCORED_COLORS)))] = IGNORE_LABEL
    table[pack(np.array(list(GTAV_COLOR_TO_TRAIN_ID)))] = list(GTAV_COLOR_TO_TRAIN_ID.values())
    return table


def png_size(path: Path | None) -> str:
    """Return "WIDTHxHEIGHT" px from a PNG's first bytes, "" where there is no PNG."""
    head = b""
    if path:
        with path.open("rb") as file:
            head = file.read(24)
    return "{}x{}".format(*struct.unpack(">II", head[16:])) if len(head) == 24 and head[1:4] == b"PNG" else ""
