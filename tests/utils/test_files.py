"""Files are written whole or not at all."""

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers import ROOT, run_command
from utils.errors import DamagedFile, DiskFull, MissingFile, UserError
from utils.files import (
    below,
    named_path,
    printable,
    read_array,
    remove_stale,
    replacing,
    safe_name,
    sha256,
    write_array,
    write_text,
)


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    """Content and name of the new file are on disk before it replaces the old one, and again after it."""
    path, calls, descriptors = tmp_path / "a.txt", [], {}
    opened, replace = os.open, os.replace

    def open_(name, flags, mode=0o777):
        descriptor = opened(name, flags, mode)
        descriptors[descriptor] = "folder" if os.path.isdir(name) else "file"
        return descriptor

    def replaced(*names):
        calls.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(descriptors[descriptor]))
    monkeypatch.setattr(os, "replace", replaced)
    write_text(path, "new")
    assert calls == ["file", "folder", "replace", "folder"]


def killed_while_writing(path):
    """Start a process that writes "new" to `path`, kill it before it replaces the old file."""
    program = (
        "import os, sys, time; from pathlib import Path; from utils.files import write_text\n"
        "os.replace = lambda *names: (print('written', flush=True), time.sleep(60))\n"
        f"write_text(Path({str(path)!r}), 'new')"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        remove_stale(path.parent)  # the process lives and keeps its file
        left = [file.name for file in path.parent.glob(".*.partial")]
        process.send_signal(signal.SIGKILL)
    return left


def test_a_killed_writer_leaves_the_old_file_and_nothing_for_long(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    left = killed_while_writing(path)
    assert path.read_text() == "old" and len(left) == 1
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", *left])
    remove_stale(tmp_path, seconds=600)
    assert len(os.listdir(tmp_path)) == 2
    remove_stale(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_no_file_is_removed_while_it_is_written(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        remove_stale(tmp_path)
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_without_locks_only_files_of_another_day_are_removed(tmp_path, monkeypatch):
    def unlockable(*args):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr("fcntl.flock", unlockable)
    write_text(tmp_path / "a.txt", "new")
    for name, age in ((".old.partial", 90000), (".new.partial", 3600)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_stale(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".new.partial", "a.txt"]


def test_many_writers_of_one_file(tmp_path):
    """Three processes write one file and clear the folder, again and again; readers see whole files only."""
    path = tmp_path / "a.npy"
    program = (
        "import sys, numpy as np; from pathlib import Path; from utils.files import *\n"
        "for i in range(40):\n"
        f"    remove_stale(Path({str(tmp_path)!r}))\n"
        f"    write_array(Path({str(path)!r}), np.full(50000, int(sys.argv[1])))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(i)], cwd=ROOT) for i in range(3)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            array = read_array(path)
            assert len(array) == 50000 and (array == array[0]).all()
            reads += 1
    assert reads and [writer.returncode for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, code):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DiskFull, match=f"disk full: {path} .* MiB are free"), replacing(path):
        raise OSError(code, os.strerror(code))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_limit_of_file_sizes_is_named_beside_the_free_room(tmp_path):
    """Files of more than 4 KiB are refused, while the disk has room."""
    code = "import resource, sys; from pathlib import Path; from utils.files import write_text; "
    code += (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); write_text(Path(sys.argv[1]), 'a' * 5000)"
    )
    done = run_command([sys.executable, "-c", code, str(tmp_path / "x")])
    assert "MiB are free, but ulimit -f allows no file above 0.0 MiB" in done.stderr
    assert not os.listdir(tmp_path)


def test_other_errors_of_the_system_stay(tmp_path):
    with pytest.raises(PermissionError), replacing(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "no")


def test_text_is_utf_8_whatever_the_language_of_the_system(tmp_path):
    code = "import sys; from pathlib import Path; from utils.files import write_text; "
    code += "write_text(Path(sys.argv[1]), chr(0xb7))"
    command = [sys.executable, "-X", "utf8=0", "-c", code, str(tmp_path / "x")]
    done = run_command(command, LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert not done.stderr and (tmp_path / "x").read_bytes() == b"\xc2\xb7"


def test_an_array_comes_back(tmp_path):
    write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == read_array(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_every_changed_bit_of_an_array_is_found(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.arange(40))
    whole = path.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(DamagedFile, match="a.npy is damaged"):
            read_array(path)
    for size in (0, 5, 100, len(whole) - 90, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match="a.npy is damaged"):
            read_array(path)


def test_an_array_of_an_earlier_version_has_no_hash(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert read_array(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_a_folder_that_is_removed_while_a_file_is_written_is_named(tmp_path):
    with pytest.raises(MissingFile, match="x was removed while a.txt was written to it"):
        with replacing(tmp_path / "x" / "a.txt"):
            shutil.rmtree(tmp_path / "x")


def test_sha256(tmp_path):
    """The hash of no bytes is a known constant."""
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")
    with pytest.raises(MissingFile, match="nowhere"):
        sha256(tmp_path / "nowhere")


def test_a_missing_file_is_both_kinds_of_error_and_survives_pickling():
    error = pickle.loads(pickle.dumps(MissingFile("no checkpoint at x")))
    assert isinstance(error, UserError) and isinstance(error, FileNotFoundError)
    assert str(error) == "no checkpoint at x"


@pytest.mark.parametrize(
    "name",
    [
        "cat",
        "a/b.c/cat",
        "frankfurt_000003_000019",
        "München/Straße 1",
        "图",
        "a~1",
        "a\"b<i>&'=1",
        "-x",
        "a\\b",
    ],
)
def test_usual_names_stay(name):
    assert safe_name(name) == name == printable(name)


ODD_NAMES = {  # name -> beginning of the safe one
    "/etc/passwd": "etc/passwd~",
    "../../photos/cat": "_/_/photos/cat~",
    "a/./b//c": "a/b/c~",
    "..": "_~",
    "": "_~",
    "a/": "a/_~",
    ".hidden/.cat": "_hidden/_cat~",
    "M\udcfcnchen": "M_nchen~",
    "two\nlines\x1b[31m": "two_lines_[31m~",
    "nul\0": "nul_~",
    "x.PNG/y": "x_PNG/y~",
    "n" * 250: "n" * 171 + "~",
    "ü" * 120: "ü" * 85 + "~",
    "f" * 250 + "/y": "f" * 180 + "/y~",
    "d/" * 1000 + "y": "d/" * 409 + "d/y~",
}


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_odd_names_become_safe(name):
    safe = safe_name(name)
    assert safe.startswith(ODD_NAMES[name]) and len(safe) == len(ODD_NAMES[name]) + 8
    assert safe_name(safe) == safe


def test_different_odd_names_stay_different_and_keep_their_suffix(tmp_path):
    names = [name + suffix for name in ODD_NAMES for suffix in ("", ".png", ".jpg")]
    assert len(set(map(safe_name, names))) == len(names)
    assert safe_name("M\udcf6nchen") != safe_name("M\udcfcnchen")
    assert safe_name("../" + "n" * 300 + ".jpeg").endswith(".jpeg")
    for name in ODD_NAMES:  # a disk takes all of them, with the longest suffix of a picture
        path = below(tmp_path, name, "_compose.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.encode("utf-8", "replace").decode())
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(ODD_NAMES)


def test_below_follows_no_link_out_of_the_folder(tmp_path):
    folder, photos = tmp_path / "results", tmp_path / "photos"
    photos.mkdir()
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)  # the folder itself may be a link
    assert below(tmp_path / "link", "../cat", ".png").parent == tmp_path / "link/_"
    (folder / "out").symlink_to(photos)
    (folder / "cat.png").symlink_to(photos / "cat.png")
    (folder / "in").symlink_to(folder / "elsewhere")
    assert below(folder, "in/cat", ".png") == folder / "in/cat.png"
    for name in ("out/cat", "cat"):
        with pytest.raises(UserError, match="remove the link"):
            below(folder, name, ".png")


def test_printable():
    assert printable("M\udcfcnchen\n\x1b\u202e.png") == r"M\xfcnchen\n\x1b\u202e.png"


@pytest.mark.parametrize(
    "text, name, path",
    [
        ("isw=logs/a", "isw", "logs/a"),
        ("logs/a", "", "logs/a"),
        ("logs/lr=0.1/a", "", "logs/lr=0.1/a"),
        ("isw=logs/lr=0.1/a", "isw", "logs/lr=0.1/a"),
        ("lr=0.1=logs/a", "lr=0.1", "logs/a"),
        ("isw=nowhere/lr=0.1", "isw", "nowhere/lr=0.1"),
        ("nowhere", "", "nowhere"),
        ("isw=", "isw", ""),
    ],
)
def test_named_path(text, name, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("logs/a", "logs/lr=0.1/a"):
        (tmp_path / folder).mkdir(parents=True)
    assert named_path(text) == (name, path)
