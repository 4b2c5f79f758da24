"""Decoded images on disk."""

import os
import resource
import shutil
import time

import numpy as np
import pytest
import torch

from datasets import DATASETS
from datasets.cache import CachedImages, MappedImage, checksums, write_mapped
from datasets.class_uniform import ClassUniform
from tests.helpers import run_processes, save
from transforms import presets
from utils.errors import DiskFull, UserError


def gtav(root):
    return DATASETS["gtav"](root / "gtav", "train", presets.train(32, color_aug=0.5, gblur=True), seed=1)


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in ("image", "label"))


def test_a_full_disk_is_named(tmp_path):
    """NumPy says only how much it could write."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, limits[1]))
    try:
        with pytest.raises(DiskFull, match="disk full: .*x.npy cannot be written, .* MiB are free"):
            write_mapped(tmp_path / "x.npy", np.zeros(2**13, np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_samples_are_those_of_the_files(toy, tmp_path):
    plain, cached = gtav(toy), CachedImages(gtav(toy), tmp_path)
    assert len(cached) == len(plain) and all(same(cached[i], plain[i]) for i in range(len(plain)))
    cached.set_epoch(3)
    assert not same(cached[0], plain[0])
    plain.set_epoch(3)
    assert same(cached[0], plain[0])
    assert not any(path.suffix == ".tmp" for path in tmp_path.rglob("*"))


def test_under_class_uniform_sampling(toy, tmp_path):
    bases = gtav(toy), CachedImages(gtav(toy), tmp_path)
    plain, cached = (ClassUniform(base, 0.5, 32, cache_dir=tmp_path / "centroids") for base in bases)
    assert all(same(cached[i], plain[i]) for i in range(len(plain)))


def test_files_are_decoded_once(toy, tmp_path, monkeypatch):
    CachedImages(gtav(toy), tmp_path)
    base = gtav(toy)
    for name in ("open", "read_label"):
        monkeypatch.setattr(base, name, None)  # any reading would fail
    cached = CachedImages(base, tmp_path)
    cached[0]
    assert len(ClassUniform(cached, 0.5, 32, cache_dir=tmp_path / "centroids").centroids)


def test_a_damaged_file_is_remade(toy, tmp_path, caplog):
    cached = CachedImages(gtav(toy), tmp_path)
    path, label = cached.files[cached.samples[0].image]
    whole, item = path.read_bytes(), cached[0]

    def check(file):
        with caplog.at_level("WARNING", "robustnet"):
            assert same(cached[0], item)
        assert f"cached file {file} is damaged; it is decoded again" in caplog.text
        assert path.read_bytes() == whole
        caplog.clear()

    for content in (whole[:-200], b"", b"garbage" * 100, b"\x93NUMPY\1\0v\0{'descr': "):
        path.write_bytes(content)
        check(path)
    crop = len(whole) // 3  # within the pixels, also where they are white, and in the checksums
    for position, changed in ((crop, bytes(4096)), (crop, b"\xff\xfe"), (len(whole) - 60, bytes(60))):
        path.write_bytes(whole[:position] + changed + whole[position + len(changed) :])
        check(path)
    a_label, floats, a_row = np.zeros((8, 9), np.uint8), np.zeros((8, 9, 3)), np.zeros(3, np.uint8)
    for values in (a_label, floats, a_row):
        np.save(path, values)
        check(path)
    path.unlink()
    check(path)
    label.write_bytes(b"")
    check(label)
    label.write_bytes(b"")
    assert (cached.read_label(cached.samples[0].label) == np.load(label)).all()


def test_only_the_blocks_of_a_crop_are_checked(tmp_path):
    """Rows of 64 KiB, a block each; the damaged row 2 is noticed only by crops that have it."""
    values = np.random.default_rng(0).integers(0, 256, (5, 2**16), np.uint8)
    write_mapped(tmp_path / "x.npy", values)
    content = bytearray((tmp_path / "x.npy").read_bytes())
    start = len(content) - content[::-1].index(values[2, ::-1].tobytes()) - 2**16
    content[start + 7] ^= 1
    (tmp_path / "x.npy").write_bytes(content)
    image = MappedImage(tmp_path / "x.npy", ())
    assert (image.crop((3, 0, 9, 2)) == values[:2, 3:9]).all()
    assert (image.crop((3, 3, 9, 5)) == values[3:, 3:9]).all()
    for top, bottom in ((0, 3), (2, 3), (2, 5)):
        with pytest.raises(UserError, match="x.npy is damaged"):
            image.crop((3, top, 9, bottom))


@pytest.mark.parametrize("width", [1, 7, 8, 2**16 - 1, 2**16, 2**16 + 1])
def test_checksums_of_all_lengths(width):
    content = np.random.default_rng(0).integers(0, 256, width, np.uint8)
    for position in (0, width // 2, width - 1):
        changed = content.copy()
        changed[position] ^= 1
        assert (checksums(changed) != checksums(content)).any()
    assert (checksums(np.zeros(width, np.uint8)) == 1).all()


def test_unfinished_files_of_dead_jobs_are_removed(toy, tmp_path):
    folder = tmp_path / "gtav"
    folder.mkdir()
    for name, age in ((".old.partial", 7200), (".new.partial", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age,) * 2)
    CachedImages(gtav(toy), tmp_path)
    assert [path.name for path in folder.glob(".*")] == [".new.partial"]


def test_copies_of_a_dataset_keep_apart(toy, tmp_path):
    """The second copy has other times of change; it must not take the first one's files for outdated."""
    shutil.copytree(toy / "gtav", tmp_path / "copy/gtav", copy_function=shutil.copyfile)
    first = CachedImages(gtav(toy), tmp_path / "cache")
    second = CachedImages(gtav(tmp_path / "copy"), tmp_path / "cache")
    assert same(first[0], second[0])


def test_a_folder_that_cannot_be_filled(toy, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"--cache_images {tmp_path / 'file'} "):
        CachedImages(gtav(toy), tmp_path / "file")


def test_an_image_that_cannot_be_read_does_not_keep_the_others_out(tmp_path):
    """It is an error where it is used, as without the folder, so that another one takes its place."""
    for name in "12":
        for folder in ("images", "labels"):
            save(tmp_path / f"gtav/{folder}/train/{name}.png", np.zeros((40, 40, 3)))
    (tmp_path / "gtav/images/train/1.png").write_bytes(b"")
    cached = CachedImages(gtav(tmp_path), tmp_path / "cache")
    assert same(cached[1], gtav(tmp_path)[1])
    with pytest.raises(UserError, match="image .*1.png cannot be read"):
        cached[0]


def test_changed_source_is_decoded_anew(tmp_path):
    root = tmp_path / "data"
    for folder, values in (("images", np.zeros((40, 40, 3))), ("labels", np.zeros((40, 40, 3)))):
        save(root / f"gtav/{folder}/train/1.png", values)
    first = CachedImages(gtav(root), tmp_path / "cache")[0]
    save(root / "gtav/images/train/1.png", np.full((40, 40, 3), 200))
    os.utime(root / "gtav/images/train/1.png", (1, 1))
    second = CachedImages(gtav(root), tmp_path / "cache")
    assert second[0]["image"].mean() > first["image"].mean() + 1 and same(second[0], gtav(root)[0])
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2  # the stale one is gone


def test_source_that_changes_later_is_not_read(tmp_path):
    """The decoded image stays; where it is damaged, it is not decoded from what the source is now."""
    for folder in ("images", "labels"):
        save(tmp_path / f"gtav/{folder}/train/1.png", np.zeros((40, 40, 3)))
    cached = CachedImages(gtav(tmp_path), tmp_path / "cache")
    item = cached[0]
    save(tmp_path / "gtav/images/train/1.png", np.full((40, 40, 3), 200))
    os.utime(tmp_path / "gtav/images/train/1.png", (1, 1))
    assert same(cached[0], item)
    image, _ = cached.files[cached.samples[0].image]
    image.unlink()
    with pytest.raises(UserError, match="1.png was changed after it was listed"):
        cached[0]


def _in_process(rank, world_size, root, folder):
    return CachedImages(gtav(root), folder)[1]


def test_processes_share_a_folder(toy, tmp_path):
    first, second = run_processes(_in_process, 2, toy, tmp_path)
    assert same(first, second) and same(first, gtav(toy)[1])
