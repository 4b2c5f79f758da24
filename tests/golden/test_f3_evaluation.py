"""Sizes, filters and averages of sliding and pooling evaluation; golden/fidelity_F3 and fidelity_F10."""

from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.golden.recipe import fidelity, image, randn
from utils.evaluation.inference import predict
from utils.pixels import IMAGENET_MEAN, IMAGENET_STD, normalize_

F3, SLIDING = fidelity("F3")
F10, POOLING = fidelity("F10")
Output = namedtuple("Output", "logits")


class Network(nn.Module):
    """A function of the image as a network that remembers its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function, self.inputs = function, []

    def forward(self, x):
        self.inputs.append(x)
        return Output(self.function(x))


def normalized(pixels):
    return normalize_(torch.from_numpy(pixels).permute(2, 0, 1).float())[None]


def grey_levels(x):
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (255 * (x * std + mean)).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("scale", F3["resize"]["scales"])
def test_the_resized_image_and_its_mirror(scale):
    case = F3["resize"]
    net = Network(lambda x: x[:, :1])
    predict(net, normalized(image(case["seed"], *case["size"])), scales=[scale], crop=80)
    ((straight, mirrored),) = map(grey_levels, net.inputs)
    expected = SLIDING[f"resize/{scale}"].astype(float)
    assert abs(straight - expected).max() < 1e-3
    assert abs(mirrored[:, ::-1] - expected).max() < 1e-3


@pytest.mark.parametrize("number", range(len(F3["sliding"]["cases"])))
def test_sliding_logits(number):
    case = F3["sliding"]["cases"][number]
    weight = (randn(case["seed"] + 1, case["classes"], 3, 3, 3) / 3).float()
    bias = randn(case["seed"] + 2, case["classes"]).float()
    net = Network(lambda x: F.conv2d(x, weight, bias, padding=1))
    pixels = normalized(image(case["seed"], *case["size"]))
    logits = predict(net, pixels, crop=case["crop"], scales=case["scales"])
    assert abs(logits[0].numpy() - SLIDING[f"sliding/{number}"]).max() < 1e-5


def pooled(function):
    """Return the probabilities of the pooling case for a network, every third class."""
    case = F10["pooling"]
    pixels = normalized(image(case["seed"], *case["size"]))
    return predict(Network(function), pixels, mode="pooling", scales=case["scales"])[0, ::3].numpy()


def test_pooling_resizes_logits_before_the_softmax():
    seed, classes = F10["pooling"]["seed"], F10["pooling"]["classes"]

    def blind(x):
        return (3 * randn(seed + x.shape[2], 1, classes, *x.shape[2:])).float().expand(len(x), -1, -1, -1)

    assert abs(pooled(blind) - POOLING["pooling/blind"]).max() < 1e-5


def test_pooling_resizes_the_image_bicubic():
    seed, classes = F10["pooling"]["seed"], F10["pooling"]["classes"]
    weight, bias = (2 * randn(seed + 1, classes, 3, 1, 1)).float(), randn(seed + 2, classes).float()
    probs = pooled(lambda x: F.conv2d(x, weight, bias))
    assert np.abs(probs - POOLING["pooling/linear"]).max() < 1e-5
