"""Files are written whole or not at all, and read without running code."""

import pickle

import numpy as np
import pytest
import torch

from utils.errors import MissingFile, UserError
from utils.files import load_torch, replacing, sha256, write_array, write_text


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
