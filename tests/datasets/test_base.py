"""What a new dataset may say, and whose mistakes are reported how."""

import traceback

import numpy as np
import pytest
from torch.utils.data import DataLoader

from datasets import DATASETS, common_classes
from datasets.labels import lookup_table
from tests.helpers import no_transform, write_camvid
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import MissingFile, UserError

CamVid = DATASETS["camvid"]


class MissingImport(CamVid):
    def decode_label(self, image):
        return nonumpy.asarray(image)  # noqa: F821


class WrongUnpacking(CamVid):
    def decode_label(self, image):
        _, _ = np.asarray(image).shape, 1, 2
        return np.asarray(image)


class UnknownColour(CamVid):
    def decode_label(self, image):
        raise UserError("colour 5 is not known")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "error"), [(MissingImport, NameError), (WrongUnpacking, ValueError)], ids=lambda v: v.__name__
)
def test_a_bug_in_decode_label_keeps_its_traceback(dataset, error, workers, tmp_path):
    write_camvid(tmp_path, [[[0, 1]]])
    loader = DataLoader(dataset(tmp_path, "train", no_transform), num_workers=workers)
    with pytest.raises(error) as raised:
        list(loader)
    assert not isinstance(raised.value, UserError) and "cannot be read" not in str(raised.value)
    text = "".join(traceback.format_exception(raised.value))
    assert "in decode_label" in text and __file__ in text


def test_what_decode_label_says_of_a_file_names_it(tmp_path):
    write_camvid(tmp_path, [[[0, 1]]])
    with pytest.raises(UserError, match=r"trainannot/000.png .*: colour 5"):
        UnknownColour(tmp_path, "train", no_transform)[0]


def test_a_file_that_is_gone_is_named(tmp_path):
    write_camvid(tmp_path, [[[0, 1]]])
    dataset = CamVid(tmp_path, "train", no_transform)
    dataset.samples[0].label.unlink()
    with pytest.raises(MissingFile, match="label .*000.png"):
        dataset[0]


def test_a_table_beyond_the_classes(tmp_path):
    class TwoClasses(CamVid):
        classes = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))
        table = lookup_table({0: 0, 1: 1, 2: 2})

    with pytest.raises(ValueError, match="train id 2 of 2 classes"):
        TwoClasses(tmp_path, "train", None)


@pytest.mark.parametrize("name", DATASETS)
def test_what_every_dataset_says(name):
    dataset = DATASETS[name]
    if dataset.classes is not None:
        assert set(dataset.table.tolist()) <= {*range(len(dataset.classes)), 254, 255}
    assert set(dataset.published) <= set(dataset.splits)
    for train_ids in dataset.subsets.values():
        assert set(train_ids) < set(range(len(dataset.classes)))
    assert dataset.root_variable or name == "null"


def test_synthias_subset():
    (subset,) = DATASETS["synthia"].subsets.values()
    absent = [name for train_id, name in enumerate(CITYSCAPES.names) if train_id not in subset]
    assert absent == ["terrain", "truck", "train"]


def test_common_classes(monkeypatch):
    own = type("Own", (CamVid,), {"classes": ClassTable(("a",), ((0, 0, 0),))})
    monkeypatch.setitem(DATASETS, "own", own)
    assert common_classes([]) == common_classes(["folder", "null"]) == CITYSCAPES
    assert common_classes(["gtav", "folder", "kitti"]) == CITYSCAPES
    assert common_classes(["null", "own"]) == own.classes
    with pytest.raises(UserError, match=r"gtav \(19.* own \(1"):
        common_classes(["gtav", "own"])
    with pytest.raises(UserError, match="'kity'.*cityscapes"):
        common_classes(["gtav", "kity"])
