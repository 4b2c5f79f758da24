"""GTAV, "Playing for Data" (Richter et al., ECCV 2016, arXiv 1608.02192)."""

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.base import Layout, Sample, SegmentationDataset
from datasets.labels import CITYSCAPES_LABELS, INVALID
from utils.classes import IGNORE_LABEL
from utils.errors import UnknownValues, UserError
from utils.images import CLEAR, palette, palette_values

NO_TRANSPARENCY = "a label has no transparency: save it without"


class GTAV(SegmentationDataset):
    """GTAV, whose labels are palette images in Cityscapes' colours; copies in plain RGB are read too.

    The colour decides the class, never the palette's index. A flat download is split by split_data/. Listing
    leaves out pairs of different sizes, of which the release has some.
    """

    name = "gtav"
    root_variable = "GTAV_DIR"
    lists = ("da_sac",)
    folders = {"val": "valid"}
    layouts = (Layout("images/{split}", "labels/{split}"), Layout("images", "labels", flat=True))
    published = {"train": 12388, "val": 6382, "test": 6181}
    download = ((r"(images|labels)/(?P<number>\d+)\.png", r"\1/{split}/{part}/\g<number>.png"),)

    def find_samples(self) -> list[Sample]:
        samples = super().find_samples()
        with ThreadPoolExecutor(8) as pool:
            sizes = pool.map(lambda sample: (png_size(sample.image), png_size(sample.label)), samples)
        differ = {
            sample: f"{sample.image} is {image}, {sample.label} {label}"
            for sample, (image, label) in zip(samples, sizes, strict=True)
            if image and label and image != label  # a damaged header is reported when the file is read
        }
        self.skip(list(differ.values()), "image and label differ in size")
        return [sample for sample in samples if sample not in differ]

    def decode_label(self, image: Image.Image) -> np.ndarray:
        if image.mode not in ("P", "RGB", "RGBA"):
            raise UserError(
                f"a GTAV label shows its classes in colours, this one is grey (mode {image.mode}), and its "
                "values may be ids or what a program made of colours: take the palette or RGB image of the "
                "release"
            )
        if image.mode == "P":
            return self._of_indices(image)
        if "A" in image.mode and (np.asarray(image.getchannel("A")) != 255).any():
            raise UserError(f"it has transparent pixels; {NO_TRANSPARENCY}")
        colors = np.asarray(image.convert("RGB"))
        if (clear := image.info.get("transparency")) and (colors == clear).all(-1).any():
            raise UserError(f"its pixels of colour {list(clear)} are transparent; {NO_TRANSPARENCY}")
        label = color_table().take(pack(colors))
        if (unknown := label == INVALID).any():
            text = f"colour {colors[unknown][0].tolist()} is not one of the Cityscapes table"
            raise UnknownValues(text, int(unknown.sum()))
        return label

    def _of_indices(self, image: Image.Image) -> np.ndarray:
        """Return the train ids of a palette label."""
        colors, values = palette(image), palette_values(image)
        table = np.full(256, INVALID, np.uint8)
        table[: len(colors)] = color_table()[pack(colors)]
        table[values == CLEAR] = INVALID
        label = np.asarray(image.point(table.tolist()))
        if (unknown := label == INVALID).any():
            index = int(np.asarray(image)[unknown][0])
            if index >= len(colors):
                raise UserError(f"it uses index {index}, which its palette does not have")
            if values[index] == CLEAR:
                raise UserError(f"index {index} of its palette is transparent; {NO_TRANSPARENCY}")
            text = f"colour {colors[index].tolist()} is not one of the Cityscapes table"
            raise UnknownValues(text, int(unknown.sum()))
        return label


def pack(colors: np.ndarray) -> np.ndarray:
    """Return the 24-bit number of each colour: (..., 3) -> (...)."""
    return colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


@cache
def color_table() -> np.ndarray:
    """Return uint8 (2^24,): 24-bit colour -> train id, 255 if not scored, INVALID if unknown."""
    table = np.full(1 << 24, INVALID, np.uint8)
    for scored in (False, True):  # scored labels last: they win where an unscored one has the same colour
        for label in CITYSCAPES_LABELS:
            if (label.train_id != IGNORE_LABEL) == scored:
                table[pack(np.array(label.color))] = label.train_id
    return table


def png_size(path: Path | None) -> str:
    """Return "WIDTHxHEIGHT" px from a PNG's first bytes, "" for other files and those that cannot be read."""
    head = b""
    if path:
        with suppress(OSError), path.open("rb") as file:
            head = file.read(24)
    return "{}x{}".format(*struct.unpack(">II", head[16:])) if len(head) == 24 and head[1:4] == b"PNG" else ""
