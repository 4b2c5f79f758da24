"""Validation during training: scores by hand, over the classes that occur in the dataset."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from utils.classes import ClassTable
from utils.training.validation import Pictures, validate_all

CLASSES = ClassTable(("road", "traffic light", "car"), ((128, 64, 128), (250, 170, 30), (0, 0, 142)))


class Painted(nn.Module):
    """Predicts the class that the first channel of a pixel names."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return SimpleNamespace(logits=one_hot(image[:, 0].long(), 3).permute(0, 3, 1, 2).float())


class Loader(list):
    """One batch of a dataset in which only some classes occur."""

    def __init__(self, occurring):
        image = torch.zeros(1, 3, 2, 4)
        image[0, 0] = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]])
        label = torch.tensor([[[0, 0, 0, 0], [1, 1, 1, 1]]])
        super().__init__([{"image": image, "label": label, "name": ["a"]}])
        self.dataset = SimpleNamespace(occurring=occurring)


class Plots(list):
    """Collects the scalars of a writer."""

    def add_scalar(self, tag, value, step):
        self.append((tag, round(value, 4)))

    def add_image(self, *_):
        """Draw nothing."""


@pytest.mark.parametrize("occurring, mean", [(None, (3 / 4 + 2 / 5 + 0) / 3), ((0, 1), (3 / 4 + 2 / 5) / 2)])
def test_the_mean_is_over_the_classes_that_occur(occurring, mean, caplog):
    """road: 3 of 4; traffic light: 2 right, 1 false, 2 missed (2 of 5); car: twice predicted, never there."""
    plots = Plots()
    with caplog.at_level("INFO", "robustnet"):
        pictures = Pictures(plots, 7, CLASSES)
        scores = validate_all({"": Painted()}, {"town": Loader(occurring)}, cross_entropy, pictures)
    assert math.isclose(scores["town"].mean_iu, mean)
    tags = dict(plots)
    assert tags["town/mean_iu"] == tags["mean_iu/town"] == round(mean, 4)
    assert tags["iou_road/town"] == 0.75 and tags["iou_traffic_light/town"] == 0.4
    assert ("iou_car/town" in tags) == (occurring is None)
    assert f"{2 if occurring else 3} classes of town: road 75.00, traffic light 40.00" in caplog.text
