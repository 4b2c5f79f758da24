"""What --deterministic sets, and that the operations which stand in for others give the same numbers."""

import os

import pytest
import torch

import config
import train
from network.segmentation import Resize, interpolate
from tests.helpers import flags
from utils.training import speed
from utils.training.determinism import set_deterministic


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    set_deterministic(False)


def test_what_is_set(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    set_deterministic(True)
    assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled() and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic


def test_the_flag_reaches_a_training(toy_town, tmp_path):
    train.main(config.parse_train_args(flags(toy_town, tmp_path, "--max_iter", "1", "--deterministic")))
    assert torch.are_deterministic_algorithms_enabled()


def test_nothing_is_compiled():
    flags = vars(config.parse_train_args(["--deterministic", "--compile"]))
    assert not speed.choose(flags, torch.device("cpu"))["compile"]


def test_resizing_is_that_of_pytorch():
    """The layer that a GPU uses; values are equal and gradients are, up to rounding."""
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.interpolate(x, (9, 20), mode="bilinear", align_corners=True)
    gradient = torch.randn_like(expected)
    (other,) = torch.autograd.grad(expected, x, gradient)
    set_deterministic(True)
    assert torch.equal(interpolate(x, torch.Size((9, 20))), expected)
    resized = Resize.apply(x, torch.Size((9, 20)))
    assert torch.equal(resized, expected)
    torch.testing.assert_close(torch.autograd.grad(resized, x, gradient)[0], other)
