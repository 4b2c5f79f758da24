"""split_data/ and the downloads that it splits; counts are those of facts/splits.json."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from datasets import DATASETS, splits
from datasets.splits import as_ranges, read_split, split_names
from datasets.toy_city import ENCODINGS, write_png16
from tests.helpers import no_transform, save
from utils.errors import MissingFile, UserError

COUNTS = {
    "gtav": {"train": 12388, "val": 6382, "test": 6181, "left_out": 15},
    "synthia": {"train": 6580, "val": 2820},
}
FIDELITY = json.loads((Path(__file__).parents[1] / "golden/fidelity_F4.json").read_text())
LISTS = FIDELITY["F4 source lists"]
EVERYTHING = {"gtav": set(range(1, 24967)), "synthia": set(range(9400))}


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_splits(name):
    """The lists have the published lengths, no common number, and all of the release between them."""
    assert split_names(name) == sorted(f"{name}_{split}" for split in COUNTS[name])
    lists = {split: read_split(f"{name}_{split}") for split in COUNTS[name]}
    assert {split: len(numbers) for split, numbers in lists.items()} == COUNTS[name]
    assert not any(a & b for a, b in combinations(lists.values(), 2))
    assert set().union(*lists.values()) == EVERYTHING[name]


def test_known_numbers():
    assert {1, 10, 65, 24920} <= read_split("gtav_train") and {22, 24961} <= read_split("gtav_val")
    assert read_split("gtav_left_out") >= {12160, 12166, 12167, 12208, 19993}
    assert 0 in read_split("synthia_val") and 9399 in read_split("synthia_train")


@pytest.mark.parametrize(
    ("text", "message"), [("1-2 x", "'x' is neither"), ("3-", "'3-' is"), ("1 1-2", "a number twice")]
)
def test_bad_lists(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "FOLDER", tmp_path)
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(UserError, match=f"bad.txt.*{message}"):
        read_split.__wrapped__("bad")


def test_as_ranges():
    assert as_ranges(np.array([0, 1, 2, 5, 254, 255])) == "0-2, 5, 254-255"
    assert as_ranges([7]) == "7"


def write_flat(root, name, numbers):
    """Write one all-road pair of 2x3 px per number as the download has it."""
    road = np.full((2, 3), ENCODINGS[name][0])
    for number in numbers:
        if name == "gtav":
            save(root / f"images/{number:05d}.png", np.zeros((2, 3, 3)))
            save(root / f"labels/{number:05d}.png", np.full((2, 3, 3), (128, 64, 128)))
        else:
            save(root / f"RGB/{number:07d}.png", np.zeros((2, 3, 3)))
            label = root / f"GT/LABELS/{number:07d}.png"
            label.parent.mkdir(parents=True, exist_ok=True)
            write_png16(label, np.stack([road] * 3, -1))


@pytest.mark.parametrize(
    ("name", "split", "found"),
    [
        ("gtav", "train", [1, 2]),
        ("gtav", "val", [22, 23]),
        ("gtav", "test", [11]),
        ("synthia", "train", [1, 2, 22, 23]),
        ("synthia", "val", [12]),
    ],
)
def test_a_flat_download_is_split_by_the_lists(name, split, found, tmp_path, caplog):
    """19993 is known to be unusable and not worth a word; 30000 is in no list."""
    write_flat(tmp_path, name, [1, 2, 11 if name == "gtav" else 12, 22, 23])
    if name == "gtav":
        write_flat(tmp_path, name, [19993, 30000])
    dataset = DATASETS[name](tmp_path, split, no_transform)
    assert [int(dataset[i]["name"]) for i in range(len(dataset))] == found
    assert dataset[0]["label"].tolist() == [[0] * 3] * 2
    text = f"{COUNTS[name][split] - len(found)} of {COUNTS[name][split]} published images are missing: "
    assert text in caplog.text and " more" in caplog.text
    assert ("of no published split: " in caplog.text) == ("30000.png" in caplog.text) == (name == "gtav")
    assert "19993" not in caplog.text
    with pytest.raises(UserError, match="published.*--strict_data"):
        DATASETS[name](tmp_path, split, no_transform, strict=True)


def test_an_arranged_copy_comes_before_a_flat_one(tmp_path):
    write_flat(tmp_path, "gtav", [1, 2])
    write_flat(tmp_path / "x", "gtav", [3])
    for kind in ("images", "labels"):
        (tmp_path / kind / "train").mkdir()
        (tmp_path / "x" / kind / "00003.png").rename(tmp_path / kind / "train/00003.png")
    assert DATASETS["gtav"](tmp_path, "train", no_transform)[0]["name"] == "00003"


def test_no_image_of_the_split(tmp_path):
    write_flat(tmp_path, "gtav", [1, 2])
    with pytest.raises(MissingFile, match="gtav .* split val; .*missing"):
        DATASETS["gtav"](tmp_path, "val", no_transform)


@pytest.mark.parametrize("name", ["gtav", "synthia"])
def test_the_published_lists_of_da_sac(name):
    probe = LISTS["gta" if name == "gtav" else name]
    numbers = read_split(f"da_sac_{name}")
    assert len(numbers) == {"gtav": 9000, "synthia": 9400}[name]
    assert set(probe["inside"]) <= numbers and not set(probe["outside"]) & numbers
    assert numbers <= EVERYTHING[name]


@pytest.mark.parametrize(("name", "found"), [("gtav", [2, 22]), ("synthia", [0, 2, 22])])
def test_a_flat_download_read_by_the_list_of_da_sac(name, found, tmp_path, caplog):
    """RobustNet's splits do not matter: GTAV 22 and SYNTHIA 0 are in its validation list."""
    write_flat(tmp_path, name, [2, 22, 10001] if name == "gtav" else [0, 2, 22])
    samples = DATASETS[name](tmp_path, "da_sac", no_transform).samples
    assert [int(sample.image.stem) for sample in samples] == found
    assert "images of da_sac are missing" in caplog.text


def test_the_list_of_da_sac_in_all_folders(tmp_path):
    """The folders of RobustNet's splits; images need no labels where none are wanted."""
    write_flat(tmp_path / "flat", "gtav", [2, 22, 10001])
    for folder, number in (("train", 2), ("valid", 22), ("test", 10001)):
        for kind in ("images", "labels"):
            (tmp_path / kind / folder / "01").mkdir(parents=True)
            file = f"{number:05d}.png"
            (tmp_path / "flat" / kind / file).rename(tmp_path / kind / folder / "01" / file)
    samples = DATASETS["gtav"](tmp_path, "da_sac", no_transform).samples
    assert [(s.image.parts[-3], s.image.name, s.label.name) for s in samples] == [
        ("train", "00002.png", "00002.png"),
        ("valid", "00022.png", "00022.png"),
    ]
    assert [s.label for s in DATASETS["gtav"](tmp_path, "da_sac", None, labelled=False).samples] == [None] * 2


def test_of_a_number_in_two_folders_the_list_of_da_sac_takes_that_for_training(tmp_path):
    """A toy town numbers the images of each split from 1."""
    for folder, numbers in (("test", (2,)), ("train", (2, 3)), ("valid", (2, 22))):
        write_flat(tmp_path / folder, "gtav", numbers)
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / folder / kind).rename(tmp_path / kind / folder)
    samples = DATASETS["gtav"](tmp_path, "da_sac", no_transform).samples
    assert [(s.image.parts[-2], s.image.stem) for s in samples] == [
        ("train", "00002"),
        ("train", "00003"),
        ("valid", "00022"),
    ]


def test_other_datasets_have_no_such_list(tmp_path):
    with pytest.raises(UserError, match="kitti has no split 'da_sac'"):
        DATASETS["kitti"](tmp_path, "da_sac", None)
