"""Damaged files: each becomes a clean sample or one error that names it."""

import shutil

import numpy as np
import pytest
import torch

from datasets import DATASETS
from tests.helpers import no_transform, write_camvid
from transforms import presets

CROP = 32
DAMAGES = ("truncated", "flipped", "overwritten", "doubled")


def damage(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Cut at a random place, flip 1 to 8 random bits, overwrite up to 64 bytes, or repeat a part."""
    if kind == "truncated":
        return data[: rng.integers(len(data))]
    values = np.frombuffer(data, np.uint8).copy()
    if kind == "flipped":
        for place in rng.integers(len(values), size=rng.integers(1, 9)):
            values[place] ^= 1 << rng.integers(8)
        return values.tobytes()
    start = int(rng.integers(len(values)))
    stop = min(len(values), start + int(rng.integers(1, 65)))
    if kind == "overwritten":
        values[start:stop] = rng.integers(0, 256, stop - start)
        return values.tobytes()
    return data[:stop] + data[start:]


@pytest.fixture(scope="module")
def pairs(toy, tmp_path_factory):
    """A root with one training pair for each dataset, whose files may be damaged and mended."""
    roots = {}
    for name in ("cityscapes", "gtav", "synthia", "bdd100k", "mapillary"):
        roots[name] = tmp_path_factory.mktemp(name)
        for path in DATASETS[name](toy / name, "train", None).samples[0][:2]:
            copy = roots[name] / path.relative_to(toy / name)
            copy.parent.mkdir(parents=True)
            shutil.copy(path, copy)
    label = np.random.default_rng(0).integers(0, 12, (40, 60))
    roots["camvid"] = write_camvid(tmp_path_factory.mktemp("camvid"), [label])
    return roots


def outcome(name, root, transform, path) -> bool:
    """Load the one sample; return whether it is clean. An error must name the damaged file."""
    try:
        item = DATASETS[name](root, "train", transform)[0]
    except (ValueError, FileNotFoundError) as error:
        assert str(path) in str(error)
        return False
    assert item["image"].shape == (3, CROP, CROP) and item["image"].isfinite().all()
    assert item["label"].shape == (CROP, CROP) and item["label"].dtype == torch.int64
    assert set(item["label"].unique().tolist()) <= {*range(19), 255}
    return True


def damage_and_load(name, root, count):
    """Load `count` variants of image and label each; return how many were clean."""
    transform = presets.train(CROP, scale_min=0.5, scale_max=2.0)
    sample = DATASETS[name](root, "train", no_transform).samples[0]
    clean = 0
    for number, path in enumerate((sample.image, sample.label)):
        data = path.read_bytes()
        for variant in range(count):
            rng = np.random.default_rng((number, variant))
            path.write_bytes(damage(data, DAMAGES[variant % len(DAMAGES)], rng))
            clean += outcome(name, root, transform, path)
        path.write_bytes(data)
    assert outcome(name, root, transform, None)
    return clean


NAMES = ("cityscapes", "gtav", "synthia", "bdd100k", "mapillary", "camvid")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(name, pairs):
    assert damage_and_load(name, pairs[name], 40) < 80


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files(name, pairs):
    assert damage_and_load(name, pairs[name], 400) < 800


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<html>not found</html>"])
def test_files_that_are_no_images(content, pairs):
    for name in NAMES:
        for path in DATASETS[name](pairs[name], "train", None).samples[0][:2]:
            data = path.read_bytes()
            path.write_bytes(content)
            assert not outcome(name, pairs[name], presets.val(), path)
            path.write_bytes(data)
