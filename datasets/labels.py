"""Lookup tables from label values to train ids, and Cityscapes' labels, which several datasets use.

A lookup table is uint8 of shape (256,). `table[value]` is a train id, IGNORE_LABEL for a known value that is
not scored, or INVALID for a value that the dataset does not have.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.splits import as_ranges
from utils.classes import CITYSCAPES, IGNORE_LABEL
from utils.errors import UnknownValues
from utils.images import ABSENT, CLEAR, COLOURED, label_values, palette_values

INVALID = 254
Values = Callable[[Image.Image], np.ndarray]
NO_VALUE = {  # of a palette's entry -> why it has no value
    COLOURED: "index {} of its palette has a colour, so its indices may not be class ids; save the "
    "label in one channel, or set palette_ids = True in the dataset's class if they are",
    ABSENT: "it uses index {}, which its palette does not have",
    CLEAR: "index {} of its palette is transparent, so it has no value; save it without transparency",
}


def lookup_table(train_ids: Mapping[int, int], default: int = INVALID) -> np.ndarray:
    """Return the lookup table of {label value: train id}; all other values become `default`.

    Value -1 stands for 255, as it does in 8 bits.
    """
    table = np.full(256, default, np.uint8)
    table[list(train_ids)] = list(train_ids.values())
    table.flags.writeable = False
    return table


def train_id_table(num_classes: int) -> np.ndarray:
    """Return the lookup table of labels that hold train ids and IGNORE_LABEL."""
    return lookup_table({train_id: train_id for train_id in (*range(num_classes), IGNORE_LABEL)})


def train_ids(
    image: Image.Image, table: np.ndarray, name: str, values_of: Values = palette_values
) -> np.ndarray:
    """Return `table` of the values of an opened label, or of a crop of it, uint8 (H, W).

    `name` is that of the dataset. `values_of` gives the values of a palette image's indices, as
    `utils.images.palette_values` does. Raises UserError for a value that the
    table does not have, and for pixels that have no value.
    """
    image = label_values(image)
    if image.mode[0] == "I":
        values = np.asarray(image)
        ids = table.take(values.astype(np.uint8))
        unknown = (ids == INVALID) | (values < 0) | (values > 255)
    elif image.mode == "L":
        ids = np.asarray(image.point(table.tolist()))
        unknown = ids == INVALID
    else:
        values = values_of(image)
        ids = np.asarray(image.point(np.where(values < 0, INVALID, table[values]).tolist()))
        unknown = ids == INVALID
    if unknown.any():
        value = int(np.asarray(image)[unknown][0])
        if image.mode == "P" and values[value] < 0:
            raise UnknownValues(NO_VALUE[int(values[value])].format(value), int(unknown.sum()))
        value = int(values[value]) if image.mode == "P" else value
        known = as_ranges(np.flatnonzero(table != INVALID))
        text = f"class id {value} is not one of {name}'s: {known}"
        raise UnknownValues(text, int(unknown.sum()))
    return ids


class Label(NamedTuple):
    name: str
    id: int  # value in *_labelIds.png; -1 does not occur in any file
    train_id: int  # IGNORE_LABEL if the label is not scored
    color: tuple[int, ...]


_VOID = (
    ("unlabeled", 0, (0, 0, 0)),
    ("ego vehicle", 1, (0, 0, 0)),
    ("rectification border", 2, (0, 0, 0)),
    ("out of roi", 3, (0, 0, 0)),
    ("static", 4, (0, 0, 0)),
    ("dynamic", 5, (111, 74, 0)),
    ("ground", 6, (81, 0, 81)),
    ("parking", 9, (250, 170, 160)),
    ("rail track", 10, (230, 150, 140)),
    ("guard rail", 14, (180, 165, 180)),
    ("bridge", 15, (150, 100, 100)),
    ("tunnel", 16, (150, 120, 90)),
    ("polegroup", 18, (153, 153, 154)),
    ("caravan", 29, (0, 0, 90)),
    ("trailer", 30, (0, 0, 110)),
    ("license plate", -1, (0, 0, 143)),
)
_SCORED = zip(CITYSCAPES.names, CITYSCAPES.ids, CITYSCAPES.colors, strict=True)
CITYSCAPES_LABELS = (
    *(Label(name, id, train_id, tuple(color)) for train_id, (name, id, color) in enumerate(_SCORED)),
    *(Label(name, id, IGNORE_LABEL, color) for name, id, color in _VOID),
)
ID_TO_TRAIN_ID = lookup_table({label.id: label.train_id for label in CITYSCAPES_LABELS})
