"""Files of torch.save: a changed bit is found wherever it is, and no code is run."""

import errno
import hashlib
import io
import logging
import os
import pickle
import resource
import shutil
import zipfile

import numpy as np
import pytest
import torch

from tests.helpers import Payload, rename_in_pickle
from utils import torch_files
from utils.errors import DamagedFile, DiskFull, MissingFile, UserError

CONTENT = {"state_dict": {"module.a": torch.arange(5.0), "module.b": torch.ones(100)}, "iteration": 7}


def write_ours(path):
    torch_files.write(path, CONTENT)


def write_torchs(path):
    torch.save(CONTENT, path)


def write_zipped_again(path):
    torch.save(CONTENT, path)
    rename_in_pickle(path, b"", b"")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pth"


def damaged(path):
    """Whether reading the file raises the error that names it."""
    try:
        torch_files.read(path, "checkpoint")
    except DamagedFile as error:
        return str(path) in str(error)
    return False


def test_a_file_that_is_replaced_after_its_check_is_not_read(path, monkeypatch):
    write_ours(path)
    load = torch.load

    def replaced(*args, **options):
        torch_files.write(path, CONTENT | {"iteration": 8})
        return load(*args, **options)

    monkeypatch.setattr(torch, "load", replaced)
    assert [torch_files.read(path, "checkpoint")["iteration"] for _ in range(2)] == [7, 8]


@pytest.mark.parametrize("read", [torch_files.read, torch_files.read_hashed])
def test_a_file_that_is_overwritten_after_its_check_is_not_read(read, path, monkeypatch):
    write_ours(path)
    os.utime(path, (1e9, 1e9))
    torch_files.write(path.with_name("other.pth"), CONTENT | {"iteration": 8})
    load = torch.load

    def overwritten(*args, **options):
        with path.open("r+b") as file:
            file.write(path.with_name("other.pth").read_bytes())
        return load(*args, **options)

    monkeypatch.setattr(torch, "load", overwritten)
    with pytest.raises(UserError, match=f"checkpoint {path} was written to while it was read"):
        read(path, "checkpoint")


@pytest.mark.parametrize("change", [os.replace, shutil.copyfile])
def test_the_hash_is_that_of_the_file_that_is_read(change, path, monkeypatch):
    """The file is replaced, or overwritten, between reading and hashing."""
    write_ours(path)
    os.utime(path, (1e9, 1e9))
    digest, other = hashlib.sha256(path.read_bytes()).hexdigest(), path.with_name("other.pth")
    torch_files.write(other, CONTENT | {"iteration": 8})
    read = torch_files._read_checked

    def changed(*args):
        content = read(*args)
        change(other, path)
        return content

    monkeypatch.setattr(torch_files, "_read_checked", changed)
    if change is os.replace:
        content, found = torch_files.read_hashed(path, "checkpoint")
        assert (content["iteration"], found) == (7, digest)
    else:
        with pytest.raises(UserError, match="was written to while it was read"):
            torch_files.read_hashed(path, "checkpoint")


@pytest.mark.parametrize("write", [write_ours, write_torchs])
def test_every_changed_bit_is_found(path, write):
    """A bit of many bytes; of all where the zip file's frame is, at the beginning and the end."""
    write(path)
    whole = path.read_bytes()
    assert torch_files.read(path, "checkpoint")["iteration"] == 7
    for place in sorted({*range(48), *range(0, len(whole), 13), *range(len(whole) - 110, len(whole))}):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        assert damaged(path), place


def test_a_changed_bit_of_any_record_is_found_in_a_file_that_another_program_zipped(path):
    write_zipped_again(path)
    whole = path.read_bytes()
    assert torch_files.read(path, "checkpoint")["iteration"] == 7
    with zipfile.ZipFile(path) as archive:
        starts = [record.header_offset + 30 + len(record.filename) for record in archive.infolist()]
        sizes = [record.file_size for record in archive.infolist()]
    for start, size in zip(starts, sizes, strict=True):
        for place in {start, start + size // 2, start + size - 1}:
            data = bytearray(whole)
            data[place] ^= 16
            path.write_bytes(data)
            assert damaged(path), place


@pytest.mark.parametrize("write", [write_ours, write_torchs, write_zipped_again])
def test_a_file_that_was_cut_off_is_found(path, write):
    write(path)
    whole = path.read_bytes()
    for size in (0, 1, 4, 100, len(whole) // 2, *range(len(whole) - 100, len(whole), 9), len(whole) - 1):
        path.write_bytes(whole[:size])
        assert damaged(path), size
    path.write_bytes(whole[:1000] + bytes(len(whole) - 1000))
    assert damaged(path)


def test_plain_torch_reads_our_files(path):
    write_ours(path)
    for source in (path, io.BytesIO(path.read_bytes())):
        assert torch.load(source, weights_only=True)["iteration"] == 7
    torch.testing.assert_close(torch.load(path, weights_only=True, mmap=True), CONTENT)
    assert zipfile.ZipFile(path).testzip() is None


def test_skim_reads_numbers_of_all_forms(path):
    for write in (write_ours, write_torchs, write_zipped_again):
        write(path)
        assert torch_files.skim(path, "checkpoint")["iteration"] == 7
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    assert torch_files.skim(path, "checkpoint")["iteration"] == 7
    path.write_bytes(b"no checkpoint")
    with pytest.raises(DamagedFile, match="x.pth"):
        torch_files.skim(path, "checkpoint")


def test_the_old_form_is_read_with_a_warning(path, caplog):
    """It has no checksums, so a changed number cannot be found."""
    torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    with caplog.at_level(logging.WARNING, "robustnet"):
        torch.testing.assert_close(torch_files.read(path, "checkpoint"), CONTENT)
    assert "x.pth is of a form without checksums" in caplog.text
    path.write_bytes(path.read_bytes()[:-10])
    assert damaged(path)


def test_the_old_form_fits_the_hash_in_its_name(tmp_path, caplog):
    """torchvision's files are called NAME-HASH.pth with the first digits of the SHA-256."""
    torch.save(CONTENT, tmp_path / "x", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x").read_bytes()
    path = tmp_path / f"resnet-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "robustnet"):
        torch_files.read(path, "checkpoint")
    assert not caplog.text
    path.write_bytes(data[:-1] + b"\1")
    if not path.stem.rpartition("-")[2].isdecimal():
        assert damaged(path)
    dated = tmp_path / "mine-20260101.pth"
    dated.write_bytes(data)
    assert torch_files.read(dated, "checkpoint")["iteration"] == 7


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_scalars_are_read_under_the_name_of_numpy_1_and_2(path, module):
    scalars = {
        "mean_iu": np.float64(0.5),
        "acc": np.float32(0.25),
        "epoch": np.int64(3),
        "best": np.bool_(True),
        "name": np.str_("gtav"),
    }
    torch.save(scalars, path)
    rename_in_pickle(path, b"numpy._core.multiarray", module)
    assert torch_files.read(path, "checkpoint") == scalars


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch_files.write(tmp_path / "a.pth", {"x": Payload()})
    torch.save({"x": Payload()}, "b.pth")
    torch.save({"x": Payload()}, "c.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "d.pth").write_bytes(pickle.dumps(Payload()))
    for name in "abcd":
        with pytest.raises(UserError, match=f"{name}.pth cannot be read safely"):
            torch_files.read(f"{name}.pth", "checkpoint")
    assert not os.path.exists("executed")


def test_a_missing_file_is_named():
    with pytest.raises(MissingFile, match="no checkpoint at nowhere.pth"):
        torch_files.read("nowhere.pth", "checkpoint")


def check_full(path, old):
    """Writing to the full disk is one sentence; the old file stays and nothing else."""
    with pytest.raises(DiskFull) as caught:
        torch_files.write(path, {"x": torch.ones(2**18)})
    text = str(caught.value)
    assert text.startswith(f"disk full: {path} needs 1.0 MiB, and ") and "MiB are free" in text
    assert path.read_bytes() == old and os.listdir(path.parent) == ["x.pth"]


def test_a_full_disk_is_one_sentence(path, monkeypatch):
    """The disk is full at the first byte, after some, or when the file is flushed."""
    write_ours(path)
    old, write = path.read_bytes(), torch_files.HashedWriter.write

    class Full:
        def __init__(self, room):
            self.room = room

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    for room in (0, 10000):
        full = Full(room)

        def refused(self, data, full=full):
            self.file = full
            return write(self, data)

        monkeypatch.setattr(torch_files.HashedWriter, "write", refused)
        check_full(path, old)
    monkeypatch.setattr(torch_files.HashedWriter, "write", write)

    def fsync(descriptor):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", fsync)
    check_full(path, old)


def test_a_limit_of_the_system_is_one_sentence(path):
    write_ours(path)
    old, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limits[1]))
    try:
        check_full(path, old)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
