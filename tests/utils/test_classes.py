"""The table of classes, and what cannot be one."""

import pytest

from utils.classes import CITYSCAPES, ClassTable
from utils.errors import UserError

TWO = ClassTable(["lane", "other"], [(255, 0, 0), [0, 0, 255]])


def test_columns():
    assert len(TWO) == 2 and TWO.ids == (0, 1) and TWO.colors == ((255, 0, 0), (0, 0, 255))
    assert len(CITYSCAPES) == 19 and CITYSCAPES.names[13] == "car" and CITYSCAPES.ids[13] == 26


def test_a_table_survives_json():
    assert ClassTable.from_dict(TWO.to_dict()) == TWO
    assert ClassTable.from_dict(CITYSCAPES.to_dict()) == CITYSCAPES != TWO


@pytest.mark.parametrize(
    ("columns", "value"),
    [
        ({"names": ["a", "b"], "colors": [(0, 0, 0)]}, "1 colors"),
        ({"names": ["a", "a"], "colors": [(0, 0, 0)] * 2}, "'a', 'a'"),
        ({"names": [], "colors": []}, "different names"),
        ({"names": ["a"], "colors": [(0, 0, 256)]}, "256"),
        ({"names": ["a"], "colors": [(0, 0, 0)], "ids": [300]}, "300"),
        ({"names": ["a"], "colors": [(0, 0, 0)], "weights": [1.0, 2.0]}, "2 weights"),
    ],
)
def test_columns_that_do_not_fit_are_named(columns, value):
    with pytest.raises(UserError, match=value):
        ClassTable(**columns)
