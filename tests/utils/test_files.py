"""Files are written whole or not at all, and read without running code."""

import pickle

import numpy as np
import pytest
import torch

from utils.errors import MissingFile, UserError
from utils.files import below, load_torch, printable, replacing, safe_name, sha256, write_array, write_text


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_an_array_comes_back(tmp_path):
    write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_sha256(tmp_path):
    """The hash of no bytes is a known constant."""
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")
    with pytest.raises(MissingFile, match="nowhere"):
        sha256(tmp_path / "nowhere")


def test_tensors_and_numpy_scalars_are_read(tmp_path):
    torch.save({"x": torch.ones(2), "mean_iu": np.float64(0.5)}, tmp_path / "a.pth")
    assert load_torch(tmp_path / "a.pth", "checkpoint")["mean_iu"] == 0.5


class Payload:
    def __reduce__(self):
        return print, ("executed",)


def test_code_is_not_run(tmp_path, capsys):
    torch.save({"x": Payload()}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Payload()))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match=name):
            load_torch(tmp_path / name, "checkpoint")
    assert "executed" not in capsys.readouterr().out


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
