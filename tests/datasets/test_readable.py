"""Images that cannot be read: replaced in training, left out elsewhere."""

import copy
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets import DATASETS
from datasets.class_uniform import ClassUniform
from datasets.multi_source import OnePerDomain, collate
from datasets.readable import TRIES, Replacing, collate_one, collate_reasons
from datasets.views import PhotometricPairs, TargetViews
from tests.helpers import no_transform, write_camvid
from utils.errors import UserError
from utils.training.left_out import LEAST, LeftOut


@pytest.fixture
def camvid(tmp_path):
    """Six images, whose labels are 0 to 5 everywhere; the second image is empty."""
    write_camvid(tmp_path, [np.full((4, 4), value) for value in range(6)])
    (tmp_path / "train/001.png").write_bytes(b"")
    return DATASETS["camvid"](tmp_path, "train", no_transform)


def test_the_place_is_taken_by_the_same_image_always(camvid):
    names = []
    for workers in (0, 2):
        data = Replacing(camvid)
        data.set_epoch(3)
        batches = list(DataLoader(data, 2, num_workers=workers, collate_fn=collate))
        names.append([batch["name"] for batch in batches])
        assert [len(batch["name"]) for batch in batches] == [2, 2, 2]
        reasons = [reason for batch in batches for reason in batch.get("unreadable", [])]
        assert reasons and all("001.png cannot be read" in reason for reason in reasons)
    assert names[0] == names[1] and names[0][0][0] == "000" and "001" not in sum(names[0], [])
    others = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        others.add(data[1]["name"])
    assert others == {"000", "002", "003", "004", "005"}  # chance chooses among all


def test_damage_in_one_of_several_domains(camvid, tmp_path):
    write_camvid(tmp_path / "other", [np.zeros((4, 4))] * 3)
    domains = OnePerDomain([camvid, DATASETS["camvid"](tmp_path / "other", "train", no_transform)])
    data, seen = Replacing(domains), []
    for epoch in range(10):
        data.set_epoch(epoch)
        batch = collate([data[index] for index in range(3)])
        assert len(batch["image"]) == 6
        seen += batch.get("unreadable", [])
    assert seen


class Preset:
    """Views that are the whole image."""

    def reference(self, image, rng):
        return torch.from_numpy(np.array(image))

    def view(self, reference, number, rng):
        return {"teacher": reference, "number": number}


def test_views_of_a_target_on_two_processes_are_of_one_image(camvid):
    """Also where classes draw an image again: its index is then above the number of images."""
    parts = [Replacing(TargetViews(camvid, Preset(), 4, (part, 2))) for part in range(2)]
    for index in (1, 7, 13):
        first, second = (collate_reasons([part[index]]) for part in parts)
        assert first["name"] == second["name"] != ["001"]
        assert first["number"].tolist() == [[0, 1]] and second["number"].tolist() == [[2, 3]]
        assert "001.png" in first["unreadable"][0]


def test_nothing_that_can_be_read_is_an_error(camvid, tmp_path):
    for file in (tmp_path / "train").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=f"{TRIES} training images in a row .* is not there"):
        Replacing(camvid)[0]


def test_other_errors_are_not_hidden(camvid, monkeypatch):
    monkeypatch.setattr(camvid, "transform", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Replacing(camvid)[0]


@pytest.mark.parametrize("folder, kind", [("train", "image"), ("trainannot", "label")])
@pytest.mark.parametrize("link", [False, True])
def test_a_file_that_changes_is_replaced_like_one_that_vanishes(folder, kind, link, camvid, tmp_path):
    """It has another content of the same size, and no other item is affected."""
    file = tmp_path / folder / "003.png"
    if link:
        file.symlink_to(file.rename(tmp_path / "elsewhere.png"))
    os.utime(file, (1e9, 1e9))
    content = file.read_bytes()
    data = Replacing(DATASETS["camvid"](tmp_path, "train", no_transform))
    data.set_epoch(2)
    assert "unreadable" not in data[3]
    file.write_bytes(content)  # at another time
    reason, *_ = (changed := data[3])["unreadable"]
    assert reason.startswith(
        f"{kind} {file} was changed after it was listed: {len(content)} bytes of 2001-09-"
    )
    assert data[4]["name"] == "004" and "unreadable" not in data[4]
    file.unlink()
    reason, *_ = (vanished := data[3])["unreadable"]
    assert "is not there" in reason and changed["name"] == vanished["name"] != "003"


def test_pairs_of_the_statistics(camvid):
    assert "001.png" in PhotometricPairs(camvid, strict=False)[1]["unreadable"]
    with pytest.raises(UserError, match="001.png"):
        PhotometricPairs(camvid)[1]


def test_labels_without_centroids(camvid, tmp_path, caplog):
    """They are not cached, so that a mended label counts in the next run."""
    label = tmp_path / "trainannot/002.png"
    content = label.read_bytes()

    def class_uniform(**options):
        return ClassUniform(DATASETS["camvid"](tmp_path, "train", no_transform), 0.5, 4, **options)

    label.write_bytes(content[:-20])
    with pytest.raises(UserError, match="002.png cannot be read"):
        class_uniform()
    assert sorted(class_uniform(strict=False).centroids[:, 0]) == [0, 1, 3, 4, 5]
    assert "leave out 1 labels" in caplog.text and not list(tmp_path.glob(".cache/*.npy"))
    label.write_bytes(content)
    assert len(class_uniform(strict=False).centroids) == 6
    without = copy.copy(camvid)
    without.samples = [sample for sample in camvid.samples if sample.label != label]
    ClassUniform(without, 0.5, 4)  # is cached
    label.unlink()
    label.symlink_to("nothing")
    caplog.clear()
    assert sorted(class_uniform(strict=False).centroids[:, 0]) == [0, 1, 3, 4, 5]
    assert "leave out 1 labels" in caplog.text
    label.unlink()
    label.write_bytes(content)
    for file in (tmp_path / "trainannot").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no label of camvid"):
        class_uniform(strict=False)


def test_a_batch_of_one_is_not_copied():
    item = {"image": torch.zeros(3, 2, 2), "name": "a"}
    batch = collate_one([item])
    assert batch["image"].shape == (1, 3, 2, 2) and batch["name"] == ["a"]
    assert batch["image"].data_ptr() == item["image"].data_ptr()
    assert collate_one([{"unreadable": "why"}]) == {"unreadable": ["why"]}


def test_reasons_come_with_the_batch():
    items = [{"a": 1, "unreadable": ["x", "y"]}, {"a": 2}]
    assert collate_reasons(items)["unreadable"] == ["x", "y"]
    assert collate_reasons([{"a": 1}]).keys() == {"a"}


def test_what_all_processes_left_out_before_does_not_count_for_one():
    left_out = LeftOut()
    left_out.restore({"x": 60})
    left_out.note(["x"])
    left_out.limit(300)
    assert left_out.gathered() == {"x": 61}


def test_too_many_end_a_run():
    left_out = LeftOut()
    for _ in range(LEAST):
        left_out.note(["x"])
    left_out.limit(8)
    left_out.note(["y"])
    left_out.limit(1000)
    with pytest.raises(UserError, match="11 times in an epoch of 8 training samples, .*: x, y"):
        left_out.limit(8)
