import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from datasets import DATASETS
from datasets.class_uniform import ClassUniform, tile_centroids
from datasets.labels import ID_TO_TRAIN_ID
from tests.helpers import no_transform, run_processes, write_camvid
from transforms import presets
from utils import distributed
from utils.errors import UserError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/centroids.json").read_text())


def camvid(root):
    """Four labels of 4x6 px: all road (train id 0), two of them with a car (13) in the right half, one void.

    CamVid writes road as 3, car as 8, void as 11.
    """
    road = np.full((4, 6), 3)
    car = road.copy()
    car[:, 4:] = 8
    if not (root / "train").exists():
        write_camvid(root, [road, car, car, np.full((4, 6), 11)])
    return DATASETS["camvid"](root, "train", no_transform, seed=1)


def test_published_centroids():
    """Where tiles divide the image, centroids and their order are the published ones."""
    blocks = np.random.default_rng(0).choice(range(34), (256 // 16, 512 // 16))
    label = ID_TO_TRAIN_ID[np.kron(blocks, np.ones((16, 16), int))]
    found = tile_centroids(label, 128)
    assert {str(c): found[found[:, 0] == c, 1:].tolist() for c in range(19)} == GOLDEN["centroids"]


def test_tiles_cover_what_is_left_at_the_right_and_the_bottom():
    """Label 3x5 of class 0, tile 2: six tiles, columns 0-1, 2-3, 4 and rows 0-1, 2; means rounded down."""
    found = tile_centroids(np.zeros((3, 5), np.uint8), 2)
    assert found.tolist() == [[0, 0, 0], [0, 2, 0], [0, 4, 0], [0, 0, 2], [0, 2, 2], [0, 4, 2]]


def test_tile_larger_than_the_image():
    """Class 1 at x 1, 2, 3 of row 0 and nothing else scored: mean x 2, y 0."""
    label = np.full((3, 5), 255, np.uint8)
    label[0, 1:4] = 1
    assert tile_centroids(label, 1024).tolist() == [[1, 2, 0]]
    assert tile_centroids(np.full((3, 5), 255, np.uint8), 1024).shape == (0, 3)


def test_an_unknown_id_is_named_with_its_file(tmp_path):
    write_camvid(tmp_path, [np.full((4, 6), 1), np.full((4, 6), 77)])
    with pytest.raises(UserError, match=r"001.png .*77 .*camvid"):
        ClassUniform(DATASETS["camvid"](tmp_path, "train", no_transform), 0.5, 1024)


def test_epoch_is_shared_evenly_among_classes_that_occur(tmp_path):
    """Half of 4 samples: one around the road, one around the car. Cars are at x 4, 5, y 0..3: (4, 1)."""
    dataset = ClassUniform(camvid(tmp_path), 0.5, 1024)
    for epoch in range(5):
        samples = dataset.build_epoch(epoch)
        assert len(samples) == len(dataset) == 4
        assert sum(sample.centroid is None for sample in samples) == 2
        cars = [sample for sample in samples if sample.centroid == (4, 1)]
        assert len(cars) == 1 and cars[0].image.name in ("001.png", "002.png")


def test_share_of_all_and_of_nothing(tmp_path):
    assert all(sample.centroid for sample in ClassUniform(camvid(tmp_path), 1, 1024).samples)
    plain = ClassUniform(camvid(tmp_path), 0, 1024)
    assert sorted(plain.samples) == plain.base.samples
    with pytest.raises(UserError, match=r"share 1.5"):
        ClassUniform(camvid(tmp_path), 1.5, 1024)


def test_epochs_depend_on_seed_and_epoch_alone(tmp_path):
    first, second = ClassUniform(camvid(tmp_path), 1, 2), ClassUniform(camvid(tmp_path), 1, 2)
    second.set_epoch(7)
    second.set_epoch(3)
    first.set_epoch(3)
    assert first.samples == second.samples
    assert first.samples != first.build_epoch(4)
    first.seed = 2
    assert first.build_epoch(3) != second.samples


def test_plain_from_max_epoch_on(tmp_path):
    dataset = ClassUniform(camvid(tmp_path), 1, 1024, max_epoch=2)
    dataset.set_epoch(1)
    assert all(sample.centroid for sample in dataset.samples)
    dataset.set_epoch(2)
    assert dataset.samples == dataset.base.samples


def test_absent_classes_are_named_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "robustnet"):
        dataset = ClassUniform(camvid(tmp_path), 0.5, 1024)
        dataset.set_epoch(1)
    notes = [record.getMessage() for record in caplog.records if "never occur" in record.getMessage()]
    assert len(notes) == 1
    assert notes[0].startswith("class-uniform sampling of camvid skips classes that never occur: sidewalk, ")
    assert "road" not in notes[0] and "car" not in notes[0].split(", ")


def test_no_scored_pixel_at_all(tmp_path):
    write_camvid(tmp_path, [np.full((4, 6), 11)] * 3)
    dataset = ClassUniform(camvid(tmp_path), 1, 1024)
    assert sorted(dataset.samples) == dataset.base.samples


def test_cache_follows_the_content(tmp_path, monkeypatch):
    base = camvid(tmp_path)
    read, read_label = [], type(base).read_label
    monkeypatch.setattr(
        type(base), "read_label", lambda self, path: read.append(path) or read_label(self, path)
    )
    first = ClassUniform(base, 1, 1024)
    assert len(read) == 4
    assert [path.suffix for path in (tmp_path / ".cache").iterdir()] == [".npy"]
    again = ClassUniform(base, 1, 1024)
    assert len(read) == 4 and (again.centroids == first.centroids).all()
    ClassUniform(base, 1, 2)
    assert len(read) == 8  # another tile
    os.utime(base.samples[0].label, (1, 1))
    base = camvid(tmp_path)
    ClassUniform(base, 1, 1024)
    assert len(read) == 12  # a label was touched
    monkeypatch.setattr("datasets.class_uniform.DECODING", -1)
    ClassUniform(base, 1, 1024)
    assert len(read) == 16  # labels are decoded in another way


def test_cache_moves_with_the_data(tmp_path):
    ClassUniform(camvid(tmp_path / "here"), 1, 1024)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = camvid(tmp_path / "there")
    moved.read_label = None  # any reading would fail
    assert ClassUniform(moved, 1, 1024).samples[0].image.is_relative_to(tmp_path / "there")


def test_damaged_cache_is_replaced(tmp_path, caplog):
    first = ClassUniform(camvid(tmp_path), 1, 1024)
    (path,) = (tmp_path / ".cache").iterdir()
    path.write_bytes(b"not an array")
    assert (ClassUniform(camvid(tmp_path), 1, 1024).centroids == first.centroids).all()
    assert "cannot be read" in caplog.text
    assert (np.load(path) == first.centroids).all()


def test_cache_that_cannot_be_written(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    dataset = ClassUniform(camvid(tmp_path), 1, 1024, cache_dir=tmp_path / "file/cache")
    assert len(dataset.centroids) == 5  # three images of road, two with a car
    assert "class centroids are not cached" in caplog.text


def test_boost_adds_centroids_of_some_classes(tmp_path):
    """Another set has a car (train id 13) and a fence (4), of which only cars are wanted.

    The own cars are at (4, 1), the other's are all over its 2x2 px: (0, 0). With all of an epoch of 4 drawn
    evenly over road and car, two crops hold a car.
    """
    write_camvid(tmp_path / "other", [np.full((2, 2), 8), np.full((2, 2), 7)])
    other = ClassUniform(DATASETS["camvid"](tmp_path / "other", "train", no_transform), 0, 1024)
    dataset = ClassUniform(camvid(tmp_path), 1, 1024, boost=(other, [13]))
    assert dataset.present.tolist() == [0, 13] and len(dataset) == 4
    samples = [sample for epoch in range(20) for sample in dataset.build_epoch(epoch)]
    cars = {sample.image.relative_to(tmp_path).as_posix() for sample in samples if sample.centroid == (0, 0)}
    assert cars == {"other/train/000.png"}
    assert sum(sample.centroid in ((0, 0), (4, 1)) for sample in samples) == 40
    dataset.samples = [sample for sample in samples if sample.centroid == (0, 0)]
    assert dataset[0]["label"].tolist() == [[13, 13]] * 2
    os.utime(tmp_path / "other/trainannot/000.png", (1, 1))
    with pytest.raises(UserError, match="other/trainannot/000.png was changed after it was listed"):
        dataset[0]


def test_absent_classes_leave_the_length_of_an_epoch(tmp_path):
    for pct in (0.1, 0.3, 0.5, 0.9, 1):
        for labels in ([[[3]]], [[[3]], [[11]]] * 4, [[[c]] for c in range(12)]):
            write_camvid(tmp_path / "data", labels)
            base = DATASETS["camvid"](tmp_path / "data", "train", no_transform)
            dataset = ClassUniform(base, pct, 8)
            for epoch in range(3):
                samples = dataset.build_epoch(epoch)
                assert len(samples) == len(base) == len(dataset)
                assert sum(sample.centroid is not None for sample in samples) == int(pct * len(base))


def test_crops_of_an_epoch_show_the_class_that_was_drawn(tmp_path):
    """Blobs larger than what scaling down could lose; sizes and tiles that do not divide each other."""
    rng, written = np.random.default_rng(0), []
    for height, width in ((40, 60), (37, 91), (64, 24)):
        label = np.full((height, width), 11)
        for index in range(10):
            y, x = rng.integers(height - 8), rng.integers(width - 8)
            label[y : y + 8, x : x + 8] = index
        written.append(label)
    write_camvid(tmp_path, written)
    for tile in (16, 23, 1024):
        for options in ({}, {"crop_nopad": True}, {"pre_size": 50}):
            augment = presets.train(32, scale_min=0.5, scale_max=2.0, **options)
            dataset = ClassUniform(DATASETS["camvid"](tmp_path, "train", augment), 1, tile)
            for epoch in range(10):
                dataset.set_epoch(epoch)
                drawn = [(dataset.load(s, np.random.default_rng(epoch)), s.centroid) for s in dataset.samples]
                assert all(point is not None and item["label"].shape == (32, 32) for item, point in drawn)
                assert all((item["label"] != 255).any() for item, _ in drawn)


def _in_process(rank, world_size, root):
    dataset = ClassUniform(camvid(root), 1, 1024)
    try:
        distributed.from_first_rank(lambda: [][0])
    except IndexError:
        return dataset.samples


def test_processes_agree(tmp_path):
    camvid(tmp_path)
    first, second = run_processes(_in_process, 2, tmp_path)
    assert first == second and len(first) == 4


def test_a_label_that_images_share_is_read_once(tmp_path, monkeypatch):
    """Video frames have the label of the frame between them; each gets its centroids."""
    base = camvid(tmp_path)
    base.samples = [base.samples[0], base.samples[1], base.samples[0]]
    read = []
    label = np.array([[0, 1]], np.uint8)
    monkeypatch.setattr(base, "read_label", lambda path: read.append(path) or label)
    rows = ClassUniform(base, 0.5, 1024).centroids
    assert len(read) == 2 and rows.tolist() == [[i, c, c, 0] for i in range(3) for c in (0, 1)]
