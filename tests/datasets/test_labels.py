import numpy as np
import pytest

from datasets import labels


def test_cityscapes_table():
    assert len(labels.CITYSCAPES) == 35
    assert labels.NUM_CLASSES == len(labels.TRAIN_ID_NAMES) == len(labels.TRAIN_ID_COLORS) == 19
    assert [labels.TRAIN_ID_NAMES[i] for i in (0, 13, 18)] == ["road", "car", "bicycle"]
    assert labels.PALETTE[3 * 13 : 3 * 14] == [0, 0, 142]
    assert labels.PALETTE[3 * 255 :] == [0, 0, 0] and len(labels.PALETTE) == 768


@pytest.mark.parametrize(
    "table, expected",
    [
        # car, the class before the first and after the last known one, an unscored class
        (labels.ID_TO_TRAIN_ID, {7: 0, 26: 13, 33: 18, 34: labels.INVALID, 0: 255, 29: 255, 255: 255}),
        (labels.SYNTHIA_TO_TRAIN_ID, {3: 0, 8: 13, 11: 18, 22: 255, 0: 255, 23: labels.INVALID}),
        (labels.MAPILLARY_TO_TRAIN_ID, {13: 0, 55: 13, 52: 18, 20: 12, 0: 255, 65: 255, 66: labels.INVALID}),
        (labels.CAMVID_TO_TRAIN_ID, {3: 0, 8: 13, 10: 18, 11: 255, 12: labels.INVALID}),
        (labels.TRAIN_ID_TO_TRAIN_ID, {0: 0, 18: 18, 19: labels.INVALID, 254: labels.INVALID, 255: 255}),
        (labels.TRAIN_ID_TO_ID, {0: 7, 13: 26, 18: 33, 255: 0}),
    ],
)
def test_lookup_tables(table, expected):
    assert table.dtype == np.uint8 and table.shape == (256,)
    assert {value: int(table[value]) for value in expected} == expected


def test_train_ids_survive_the_way_to_ids_and_back():
    train_ids = np.arange(19)
    assert (labels.ID_TO_TRAIN_ID[labels.TRAIN_ID_TO_ID[train_ids]] == train_ids).all()


def test_gtav_colors():
    assert labels.GTAV_COLOR_TO_TRAIN_ID[0, 0, 142] == 13
    assert len(labels.GTAV_COLOR_TO_TRAIN_ID) == 19
    assert {(0, 0, 143), (153, 153, 154), (0, 0, 0)} <= labels.UNSCORED_COLORS  # plate, polegroup, void
    assert (0, 0, 142) not in labels.UNSCORED_COLORS
