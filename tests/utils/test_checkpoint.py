import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from network.weights import load_weights
from tests.helpers import Payload, rename_in_pickle
from utils import checkpoint


def small_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def test_round_trip_leaves_no_partial_file(tmp_path):
    checkpoint.save(tmp_path / "a.pth", {"state_dict": small_net().state_dict(), "epoch": 3})
    assert os.listdir(tmp_path) == ["a.pth"]
    state = checkpoint.load(tmp_path / "a.pth")
    assert (state["epoch"], state["version"]) == (3, checkpoint.VERSION)


def test_published_form_loads(tmp_path):
    """`module.` names, and NumPy 1 scalars beside the tensors."""
    net = small_net()
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    path = tmp_path / "published.pth"
    torch.save({"state_dict": state, "mean_iu": np.float64(0.4), "epoch": np.int64(7)}, path)
    rename_in_pickle(path, b"numpy._core.multiarray", b"numpy.core.multiarray")
    loaded = checkpoint.load(path)
    assert (loaded["mean_iu"], loaded["epoch"]) == (0.4, 7)
    other = small_net()
    assert str(load_weights(other, loaded["state_dict"])) == "7 entries loaded"
    torch.testing.assert_close(other.state_dict(), net.state_dict())


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "payload": Payload()}, "bad.pth")
    with pytest.raises(ValueError, match="cannot be read safely"):
        checkpoint.load("bad.pth")
    assert not os.path.exists("executed")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1])])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ValueError, match="x.pth"):
        checkpoint.load(tmp_path / "x.pth")


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere.pth"):
        checkpoint.load("nowhere.pth")


def test_a_bare_state_dict_is_no_checkpoint(tmp_path):
    torch.save(small_net().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="holds no state_dict"):
        checkpoint.load(tmp_path / "bare.pth")
