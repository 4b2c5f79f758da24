from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.evaluation import strips
from utils.evaluation.inference import WindowBatcher, classify, predict
from utils.evaluation.resizing import Resizable
from utils.evaluation.strips import scores_of_window
from utils.resampling import BILINEAR

Output = namedtuple("Output", "logits")


class Local(nn.Module):
    """Scores that depend on a pixel's surroundings and on where in its window it lies."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, 3, 3, 3, generator=generator))
        self.shapes = []

    def forward(self, image):
        self.shapes.append(tuple(image.shape))
        place = torch.linspace(0, 1, image.shape[-1]) * torch.linspace(0, 1, image.shape[-2])[:, None]
        return Output(F.conv2d(image, self.weight, padding=1) + place)


def picture(height, width):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("side", "scaled"), [(20, 10), (20, 40), (21, 13), (13, 21), (7, 7), (100, 3), (1, 1)]
)
def test_resizing_of_a_part_is_that_of_the_whole(side, scaled):
    line = picture(1, side)
    whole = F.interpolate(line, (1, scaled), mode="bilinear", antialias=True, align_corners=False)
    for first, last in ((0, scaled), (scaled // 3, scaled // 3 + 1), (scaled // 2, scaled)):
        low, high, taps = Resizable(line).span(side, scaled, first, last, BILINEAR)
        torch.testing.assert_close(taps.apply(line[..., low:high], -1), whole[..., first:last])
    back = F.interpolate(whole, (1, side), mode="bilinear", align_corners=False)
    parts = torch.zeros_like(back)
    for first, last in ((0, scaled // 2), (scaled // 2, scaled)):
        low, high, taps = scores_of_window(side, scaled, first, last, torch.full((scaled,), 2.0))
        if high > low:
            parts[..., low:high] += taps.apply(whole[..., first:last], -1)
    torch.testing.assert_close(2 * parts, back)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (0.3, 1.3)])
@pytest.mark.parametrize(("height", "width"), [(90, 130), (37, 200), (1, 1), (16, 16)])
def test_classes_in_strips_are_those_of_the_scores(monkeypatch, height, width, scales, flip):
    """Where two classes score equally within rounding, either may be taken."""
    monkeypatch.setattr(strips, "ROWS", 8)
    image, options = picture(height, width), dict(scales=scales, flip=flip, crop=24)
    scores = predict(Local(), image, **options)
    pred, confidence = classify(WindowBatcher(Local(), room=0), image, 5, confident=True, **options)
    assert pred.shape == (1, height, width) and pred.dtype == torch.uint8
    chosen = scores.gather(1, pred[:, None].long())[:, 0]
    torch.testing.assert_close(chosen, scores.amax(1), rtol=1e-5, atol=1e-5)
    assert (pred == scores.argmax(1)).double().mean() > 0.99
    torch.testing.assert_close(confidence, scores.softmax(1).amax(1))
    whole, confidence = classify(WindowBatcher(Local()), image, 5, confident=True, **options)
    assert torch.equal(whole, scores.argmax(1).byte())
    torch.testing.assert_close(confidence, scores.softmax(1).amax(1))


def test_only_the_rows_in_work_are_held(monkeypatch):
    """600 rows, windows of 24 px at scales 0.5 and 1: 48 rows and the blocks that they touch at most."""
    monkeypatch.setattr(strips, "ROWS", 8)
    most, add = [], strips._add

    def remember(blocks, *others):
        add(blocks, *others)
        most.append(len(blocks))

    monkeypatch.setattr(strips, "_add", remember)
    classify(WindowBatcher(Local(), room=0), picture(600, 40), 5, scales=(0.5, 1.0), crop=24)
    assert max(most) <= 48 // 8 + 2
