"""Shares of classes from labels and predictions to a sampler of target images."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import config
from datasets.loaders import setup_loaders
from scripts import class_weights
from utils.logging import exit_cleanly


def run(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["class_weights", *map(str, argv)])
    with exit_cleanly():
        class_weights.main()


def test_shares_by_hand():
    """Class 0 has 3 + 1 pixels, class 18 only 2 in the second image; 255 counts nowhere."""
    labels = [("a", np.array([[0, 0, 0, 255]])), ("b", np.array([[0, 18, 18, 255]]))]
    assert class_weights.shares(labels) == {"a": {"0": 0.75}, "b": {"0": 0.25, "18": 1.0}}


def test_predictions(tmp_path, monkeypatch):
    """Cityscapes label ids 7 and 33 are train ids 0 and 18."""
    (tmp_path / "pred/b").mkdir(parents=True)
    Image.fromarray(np.array([[7, 33]], np.uint8)).save(tmp_path / "pred/a.png")
    Image.fromarray(np.array([[7, 0]], np.uint8)).save(tmp_path / "pred/b/c.png")
    run(monkeypatch, "cityscapes", "--predictions", tmp_path / "pred", "--out", tmp_path / "x/shares.json")
    written = json.loads((tmp_path / "x/shares.json").read_text())
    assert written == {"a": {"0": 0.5, "18": 1.0}, "b/c": {"0": 0.5}}


def test_labels_decide_what_is_drawn(toy_town, tmp_path, monkeypatch):
    run(monkeypatch, "cityscapes", "--data_root", toy_town, "--out", tmp_path / "shares.json")
    flags = ["--dataset", "gtav", "--val_dataset", "null", "--bs_mult", "1", "--num_workers", "0"]
    flags += ["--adapt_dataset", "cityscapes", "--sac_phase", "abn", "--data_root", str(toy_town)]
    flags += ["--sac_weights", str(tmp_path / "shares.json")]
    sampler = setup_loaders(config.parse_train_args(flags)).target.sampler
    assert sampler.cumulative.shape[1] == 8 and np.allclose(sampler.cumulative[:, -1], 1)
    (tmp_path / "shares.json").write_text('{"a": {"0": 1.0}}')
    with pytest.raises(ValueError, match="8 .*shares.json"):
        setup_loaders(config.parse_train_args(flags))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["folder", "--data_root", "nowhere"], "no images in"),
        (["cityscapes", "--predictions", "nowhere"], "no predictions NAME.png in nowhere"),
    ],
)
def test_nothing_to_count(argv, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *argv, "--out", tmp_path / "shares.json")
    assert message in capsys.readouterr().err
