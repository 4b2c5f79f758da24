"""Groups of target views: what an item holds, where its randomness comes from, and that geometry holds."""

import shutil

import pytest
import torch

from datasets import DATASETS
from datasets.views import TargetCrops, TargetViews
from tests.helpers import SIZE, TRAIN
from transforms import presets
from transforms.photometric import Photometric
from transforms.similarity import invert, warp
from transforms.source import SourcePreset
from utils.errors import MissingFile, UserError
from utils.pixels import IMAGENET_MEAN, IMAGENET_STD


def views(toy, size=SIZE, name="cityscapes", **options):
    return TargetViews(DATASETS[name](toy / name, "train", None), presets.target_views(size), **options)


def test_an_item(toy):
    dataset = views(toy)
    item = dataset[1]
    assert len(dataset) == TRAIN
    assert {key: tuple(value.shape) for key, value in item.items() if key != "name"} == {
        "student": (4, 3, *SIZE),
        "teacher": (4, 3, *SIZE),
        "matrix": (4, 2, 3),
        "inverse": (4, 2, 3),
        "valid": (4, *SIZE),
    }
    assert item["valid"].dtype == torch.bool and item["valid"].all()
    assert item["name"] == dataset.base.name_of(dataset.samples[1])
    torch.testing.assert_close(invert(item["matrix"]), item["inverse"])
    assert (item["matrix"][:, :, :2].diagonal(dim1=1, dim2=2).abs() >= 1).all()
    assert not torch.equal(item["student"], item["teacher"])
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    levels = 255 * (item["teacher"] * std + mean)  # whole ones, which noise is defined on
    assert (levels - levels.round()).abs().max() < 1e-3


def test_labels_are_never_read(toy, monkeypatch):
    dataset = views(toy)
    monkeypatch.setattr(type(dataset.base), "open_label", None)
    assert len(dataset[0]["student"]) == 4


def test_labels_need_not_be_there(toy, tmp_path):
    images = "leftImg8bit_trainvaltest/leftImg8bit/train"
    shutil.copytree(toy / "cityscapes" / images, tmp_path / images)
    with pytest.raises(MissingFile, match="train/.*needs .*labelIds.png"):
        DATASETS["cityscapes"](tmp_path, "train", None)
    bare = DATASETS["cityscapes"](tmp_path, "train", None, labelled=False)
    item = TargetViews(bare, presets.target_views(SIZE))[0]
    assert torch.equal(item["student"], views(toy)[0]["student"])


def test_every_dataset_has_views(toy):
    for name in ("gtav", "synthia", "bdd100k", "mapillary"):
        assert views(toy, name=name)[0]["student"].shape == (4, 3, *SIZE)


def test_views_are_a_function_of_seed_epoch_index_and_number(toy):
    first, again, halves = views(toy), views(toy), [views(toy, part=(i, 2)) for i in (0, 1)]
    again[3]  # no state is left behind
    for epoch in (0, 1):
        for dataset in (first, again, *halves):
            dataset.set_epoch(epoch)
        item = first[2]
        for key in ("student", "teacher", "matrix", "valid"):
            assert torch.equal(item[key], again[2][key])
            assert torch.equal(item[key], torch.cat([half[2][key] for half in halves]))
    first.set_epoch(0)
    assert not torch.equal(first[2]["student"], item["student"])
    assert not torch.equal(first[1]["matrix"], first[2]["matrix"])


def test_a_view_is_the_reference_through_its_inverse(toy):
    """Seen from the reference, every view shows what view 0 shows, to the blur of having been magnified."""
    for index in range(TRAIN):
        item = views(toy)[index]
        seen, inside = warp(item["teacher"], item["matrix"])
        reference = seen[0].expand_as(seen)
        inside = inside[:, None].expand_as(seen)
        near = (seen - reference).abs()[inside].mean()
        mirrored = (seen.flip(-1) - reference).abs()[inside & inside.flip(-1)].mean()
        assert near < 0.1 < mirrored, (near, mirrored)


def test_views_that_cannot_be_shared(toy):
    with pytest.raises(UserError, match="4 views .* 3 processes"):
        views(toy, part=(0, 3))


def test_crops_for_batch_norm_have_the_augmentation_of_the_source(toy):
    """Not the views: one crop of the source's size, other crops for other indices of the same image."""
    preset = SourcePreset((32, 40), Photometric())
    dataset = TargetCrops(DATASETS["cityscapes"](toy / "cityscapes", "train", preset, labelled=False))
    first, again, other = dataset[0], dataset[0], dataset[len(dataset)]
    assert first["teacher"].shape == (1, 3, 32, 40) and set(first) == {"teacher", "name"}
    assert torch.equal(first["teacher"], again["teacher"]) and first["name"] == other["name"]
    assert not torch.equal(first["teacher"], other["teacher"])
