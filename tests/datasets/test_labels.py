import numpy as np
import pytest

from datasets import DATASETS, labels
from utils.classes import CITYSCAPES, IGNORE_LABEL


def test_cityscapes_labels():
    rows = {label.id: label for label in labels.CITYSCAPES_LABELS}
    assert len(labels.CITYSCAPES_LABELS) == len(rows) == 35 and sorted(rows) == list(range(-1, 34))
    assert rows[26] == ("car", 26, 13, (0, 0, 142)) and rows[4] == ("static", 4, 255, (0, 0, 0))
    assert sum(label.train_id != IGNORE_LABEL for label in labels.CITYSCAPES_LABELS) == 19


@pytest.mark.parametrize(
    "table, expected",
    [
        # car, the class before the first and after the last known one, an unscored class
        (labels.ID_TO_TRAIN_ID, {7: 0, 26: 13, 33: 18, 34: labels.INVALID, 0: 255, 29: 255, 255: 255}),
        (DATASETS["synthia"].table, {3: 0, 8: 13, 11: 18, 22: 255, 0: 255, 23: labels.INVALID}),
        (DATASETS["mapillary"].table, {13: 0, 55: 13, 52: 18, 20: 12, 0: 255, 65: 255, 66: labels.INVALID}),
        (DATASETS["camvid"].table, {3: 0, 8: 13, 10: 18, 11: 255, 12: labels.INVALID}),
        (DATASETS["bdd100k"].table, {0: 0, 18: 18, 19: labels.INVALID, 254: labels.INVALID, 255: 255}),
        (labels.train_id_table(2), {0: 0, 1: 1, 2: labels.INVALID, 255: 255}),
        (labels.lookup_table({5: 1}, default=0), {4: 0, 5: 1}),
    ],
)
def test_lookup_tables(table, expected):
    assert table.dtype == np.uint8 and table.shape == (256,)
    assert {value: int(table[value]) for value in expected} == expected


def test_train_ids_survive_the_way_to_ids_and_back():
    assert labels.ID_TO_TRAIN_ID[list(CITYSCAPES.ids)].tolist() == list(range(19))
