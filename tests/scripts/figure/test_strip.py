"""The strip of images: its size, its rows, and that it shows what the networks predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import get_dataset_class
from network import ARCHS
from scripts.figure.__main__ import main
from utils import checkpoint
from utils.classes import CITYSCAPES
from utils.errors import UserError


def write_network(path: Path, train_id: int) -> None:
    """Write a checkpoint whose network predicts one class everywhere."""
    net = ARCHS["DeepShuffleNetV3PlusD"]()
    torch.nn.init.zeros_(net.final2[0].weight)
    net.final2[0].bias.data = torch.nn.functional.one_hot(torch.tensor(train_id), 19).float()
    settings = {"arch": "DeepShuffleNetV3PlusD", "wt_layer": [0] * 7}
    checkpoint.save(path, {"state_dict": net.state_dict(), "settings": settings})


def draw(toy_town, tmp_path, *flags) -> Image.Image:
    for train_id, name in ((0, "road.pth"), (10, "sky.pth")):
        write_network(tmp_path / name, train_id)
    networks = [f"road={tmp_path / 'road.pth'}", f"sky={tmp_path / 'sky.pth'}"]
    place = ["--dataset", "gtav", "--data_root", str(toy_town), "--out", str(tmp_path / "strip.png")]
    main(["strip", *networks, *place, *flags])
    with Image.open(tmp_path / "strip.png") as strip:
        return strip.convert("RGB")


def test_panels(toy_town, tmp_path, capsys):
    """Four panels of 64 px and three gaps of 6 px; two rows of 32 px (images of 64 x 128), a gap, 22 px of
    titles."""
    strip = draw(toy_town, tmp_path, "--count", "2", "--width", "64")
    assert strip.size == (4 * 64 + 3 * 6, 22 + 2 * 32 + 6)
    values = np.asarray(strip)
    assert (values[22:54, 140:204] == CITYSCAPES.colors[0]).all()
    assert (values[60:92, 210:274] == CITYSCAPES.colors[10]).all()
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["mIoU", "(%)", "road", "sky"] and len(rows) == 3


def test_an_image_that_is_not_there(toy_town, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        draw(toy_town, tmp_path, "--images", "nowhere")


def test_scores_are_over_the_classes_of_the_dataset(toy_town, tmp_path, capsys, monkeypatch):
    """Where only sky occurs, a network that predicts road everywhere has nothing right."""
    monkeypatch.setattr(get_dataset_class("gtav"), "occurring", (10,))
    draw(toy_town, tmp_path, "--count", "1")
    _, road, sky = capsys.readouterr().out.splitlines()[1].split()
    assert road == "0.00" and float(sky) > 5
