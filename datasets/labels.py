"""Lookup tables from label values to train ids, and Cityscapes' labels, which several datasets use.

A lookup table is uint8 of shape (256,). `table[value]` is a train id, IGNORE_LABEL for a known value that is
not scored, or INVALID for a value that the dataset does not have.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from utils.classes import CITYSCAPES, IGNORE_LABEL

INVALID = 254


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
