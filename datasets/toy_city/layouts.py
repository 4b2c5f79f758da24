"""Layouts and encodings of the real datasets: the paths of the files and the class ids in the labels."""

import zlib
from collections.abc import Sequence

import numpy as np

from datasets.labels import CITYSCAPES_LABELS
from utils.classes import CITYSCAPES, IGNORE_LABEL

CITIES = {
    "train": "aachen bochum bremen cologne darmstadt dusseldorf erfurt hamburg hanover jena krefeld "
    "monchengladbach strasbourg stuttgart tubingen ulm weimar zurich".split(),
    "val": "frankfurt lindau munster".split(),
}


def encoding(ids: Sequence[int] | np.ndarray, void: int) -> np.ndarray:
    """Return a table (256,) from train id to class id; every train id that `ids` lacks becomes `void`."""
    table = np.full(256, void, np.uint8)
    table[: len(ids)] = ids
    return table


ENCODINGS = {  # void is static, static, void, 255 and unlabeled
    "cityscapes": encoding(CITYSCAPES.ids, 4),
    "gtav": encoding(CITYSCAPES.ids, 4),
    "synthia": encoding((3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11), 0),
    "bdd100k": encoding(range(19), IGNORE_LABEL),
    "mapillary": encoding((13, 15, 17, 6, 3, 45, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52), 65),
}
CITYSCAPES_ID_PALETTE = np.zeros((256, 3), np.uint8)
for entry in CITYSCAPES_LABELS:
    if entry.id >= 0:
        CITYSCAPES_ID_PALETTE[entry.id] = entry.color


def paths(domain: str, split: str, index: int) -> tuple[str, str]:
    """Return the paths of an image and its label in the domain's root; `split` is "train" or "val"."""
    if domain == "cityscapes":
        city = CITIES[split][index % len(CITIES[split])]
        name = f"{split}/{city}/{city}_{index:06d}_000019_"
        return (
            f"leftImg8bit_trainvaltest/leftImg8bit/{name}leftImg8bit.png",
            f"gtFine_trainvaltest/gtFine/{name}gtFine_labelIds.png",
        )
    if domain == "gtav":
        name = f"{'valid' if split == 'val' else split}/{index // 50 + 1:02d}/{index + 1:05d}.png"
        return f"images/{name}", f"labels/{name}"
    if domain == "synthia":
        return f"RGB/{split}/{index:07d}.png", f"GT/LABELS/{split}/{index:07d}.png"
    if domain == "bdd100k":
        name = f"{split}/{index:08x}-{zlib.crc32(b'%d' % index):08x}"
        return f"images/{name}.jpg", f"labels/{name}_train_id.png"
    folder = "training" if split == "train" else "validation"
    return f"{folder}/images/toy_{index:06d}.jpg", f"{folder}/labels/toy_{index:06d}.png"
