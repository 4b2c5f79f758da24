"""Cityscapes' label table and what every other dataset's classes become in it. Data only.

A lookup table is uint8 of shape (256,): `table[label]` holds train ids 0..18, IGNORE_LABEL for a known class
that is not scored, INVALID for a value that the dataset does not have.
"""

from typing import NamedTuple

import numpy as np

from utils.classes import CITYSCAPES as CLASSES
from utils.classes import IGNORE_LABEL

NUM_CLASSES = len(CLASSES)
INVALID = 254


class Label(NamedTuple):
    name: str
    id: int  # value in *_labelIds.png; -1 is never drawn
    train_id: int  # 0..18, 255 = not scored
    category: str
    has_instances: bool
    ignore_in_eval: bool
    color: tuple[int, int, int]


CITYSCAPES = (
    Label("unlabeled", 0, 255, "void", False, True, (0, 0, 0)),
    Label("ego vehicle", 1, 255, "void", False, True, (0, 0, 0)),
    Label("rectification border", 2, 255, "void", False, True, (0, 0, 0)),
    Label("out of roi", 3, 255, "void", False, True, (0, 0, 0)),
    Label("static", 4, 255, "void", False, True, (0, 0, 0)),
    Label("dynamic", 5, 255, "void", False, True, (111, 74, 0)),
    Label("ground", 6, 255, "void", False, True, (81, 0, 81)),
    Label("road", 7, 0, "flat", False, False, (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", False, False, (244, 35, 232)),
    Label("parking", 9, 255, "flat", False, True, (250, 170, 160)),
    Label("rail track", 10, 255, "flat", False, True, (230, 150, 140)),
    Label("building", 11, 2, "construction", False, False, (70, 70, 70)),
    Label("wall", 12, 3, "construction", False, False, (102, 102, 156)),
    Label("fence", 13, 4, "construction", False, False, (190, 153, 153)),
    Label("guard rail", 14, 255, "construction", False, True, (180, 165, 180)),
    Label("bridge", 15, 255, "construction", False, True, (150, 100, 100)),
    Label("tunnel", 16, 255, "construction", False, True, (150, 120, 90)),
    Label("pole", 17, 5, "object", False, False, (153, 153, 153)),
    Label("polegroup", 18, 255, "object", False, True, (153, 153, 154)),
    Label("traffic light", 19, 6, "object", False, False, (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", False, False, (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", False, False, (107, 142, 35)),
    Label("terrain", 22, 9, "nature", False, False, (152, 251, 152)),
    Label("sky", 23, 10, "sky", False, False, (70, 130, 180)),
    Label("person", 24, 11, "human", True, False, (220, 20, 60)),
    Label("rider", 25, 12, "human", True, False, (255, 0, 0)),
    Label("car", 26, 13, "vehicle", True, False, (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", True, False, (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", True, False, (0, 60, 100)),
    Label("caravan", 29, 255, "vehicle", True, True, (0, 0, 90)),
    Label("trailer", 30, 255, "vehicle", True, True, (0, 0, 110)),
    Label("train", 31, 16, "vehicle", True, False, (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", True, False, (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", True, False, (119, 11, 32)),
    Label("license plate", -1, 255, "vehicle", False, True, (0, 0, 143)),
)

_SCORED = sorted((row for row in CITYSCAPES if row.train_id != IGNORE_LABEL), key=lambda row: row.train_id)
TRAIN_ID_NAMES = tuple(label.name for label in _SCORED)
TRAIN_ID_COLORS = tuple(label.color for label in _SCORED)
PALETTE = [value for color in TRAIN_ID_COLORS for value in color] + [0] * (768 - 3 * NUM_CLASSES)
GTAV_COLOR_TO_TRAIN_ID = {label.color: label.train_id for label in _SCORED}
UNSCORED_COLORS = frozenset(label.color for label in CITYSCAPES) - frozenset(TRAIN_ID_COLORS)


def _table(train_ids: dict[int, int], default: int = INVALID) -> np.ndarray:
    table = np.full(256, default, np.uint8)
    table[list(train_ids)] = list(train_ids.values())
    table.flags.writeable = False
    return table


ID_TO_TRAIN_ID = _table({label.id: label.train_id for label in CITYSCAPES})  # -1 as uint8 is 255
TRAIN_ID_TO_ID = _table({label.train_id: label.id for label in _SCORED}, default=0)
TRAIN_ID_TO_TRAIN_ID = _table({train_id: train_id for train_id in (*range(NUM_CLASSES), IGNORE_LABEL)})
# fmt: off
SYNTHIA_TO_TRAIN_ID = _table({
    0: 255, 1: 10, 2: 2, 3: 0, 4: 1, 5: 4, 6: 8, 7: 5, 8: 13, 9: 7, 10: 11, 11: 18, 12: 17,
    13: 255, 14: 255, 15: 6, 16: 9, 17: 12, 18: 14, 19: 15, 20: 16, 21: 3, 22: 255,
})
MAPILLARY_TO_TRAIN_ID = _table(dict.fromkeys(range(66), IGNORE_LABEL) | {
    2: 1, 3: 4, 6: 3, 13: 0, 15: 1, 17: 2, 19: 11, 20: 12, 21: 12, 22: 12, 24: 0, 27: 10, 29: 9,
    30: 8, 41: 0, 45: 5, 47: 5, 48: 6, 50: 7, 52: 18, 54: 15, 55: 13, 57: 17, 58: 16, 61: 14,
})
# fmt: on
CAMVID_TO_TRAIN_ID = _table({0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 18, 11: 255})
# The classes over which means are usual besides all 19: SYNTHIA has no terrain, truck and train.
CLASS_SUBSETS = {"synthia": {"mean_iu_16": tuple(k for k in range(NUM_CLASSES) if k not in (9, 14, 16))}}
