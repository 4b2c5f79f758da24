import json
import re
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from utils.evaluation.inference import WindowBatcher, predict
from utils.evaluation.windows import tile_boxes
from utils.pixels import normalize_levels

GOLDEN = json.loads(Path(__file__).parents[2].joinpath("golden", "misc.json").read_text())
PUBLISHED_WINDOWS = GOLDEN["sliding tiles (x1,y1,x2,y2) on the scaled image"]
Output = namedtuple("Output", "logits")


class FakeNet(nn.Module):
    """Turns a function of the image into a network, and remembers the shapes that it saw."""

    def __init__(self, function=lambda image: image):
        super().__init__()
        self.function, self.shapes = function, []

    def forward(self, image):
        self.shapes.append(tuple(image.shape))
        return Output(self.function(image))


def local_position(image):
    """Scores that depend on where in its window a pixel lies: sum of the colours + 10 * row + column."""
    height, width = image.shape[-2:]
    return image.sum(1, keepdim=True) + 10 * torch.arange(height)[:, None] + torch.arange(width)


def picture(height, width, batch=1, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("case", "expected"), PUBLISHED_WINDOWS.items())
def test_published_windows(case, expected):
    """Cases read "1024x2048 scale 0.5 crop 1024": the image is scaled, windows are crop * max(scale, 1)."""
    height, width, scale, crop = (float(number) for number in re.findall(r"[0-9.]+", case))
    boxes = tile_boxes(int(height * scale), int(width * scale), int(crop * max(scale, 1)), 1 / 3)
    assert boxes == [tuple(box) for box in expected]


@pytest.mark.parametrize("overlap", [0, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 40), (40, 7), (16, 16), (17, 33), (97, 31)])
def test_windows_cover_the_image_and_are_alike(height, width, overlap):
    covered = np.zeros((height, width), int)
    boxes = tile_boxes(height, width, 16, overlap)
    for x1, y1, x2, y2 in boxes:
        assert (x2 - x1, y2 - y1) == (min(16, width), min(16, height))
        assert x1 >= 0 and y1 >= 0
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    assert len(set(boxes)) == len(boxes)


@pytest.mark.parametrize(("crop", "overlap"), [(0, 0.3), (-4, 0.3), (16, 1), (16, -0.1)])
def test_impossible_windows(crop, overlap):
    with pytest.raises(ValueError, match="crop"):
        tile_boxes(10, 10, crop, overlap)


@pytest.mark.parametrize(("height", "width"), [(20, 45), (45, 20), (9, 30), (33, 12)])
def test_sliding_averages_each_pixel_over_its_windows(height, width):
    """A per-pixel loop: the mean over the windows (x1, y1, ..) there of colour + 10 * (y - y1) + (x - x1)."""
    image = picture(height, width)
    scores = predict(FakeNet(local_position), image, scales=[1.0], flip=False, crop=12, overlap=1 / 3)
    boxes, brightness = tile_boxes(height, width, 12, 1 / 3), image[0].sum(0)
    for y in range(height):
        for x in range(width):
            here = [10 * (y - y1) + x - x1 for x1, y1, x2, y2 in boxes if x1 <= x < x2 and y1 <= y < y2]
            expected = brightness[y, x].item() + sum(here) / len(here)
            assert scores[0, 0, y, x].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mode", ["sliding", "whole"])
@pytest.mark.parametrize(("height", "width"), [(21, 50), (50, 21)])
def test_coordinates_pass_through(mode, height, width):
    """Windows that answer with the absolute position (small integers) must average to it."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, columns, rows + columns])[None].float()
    scores = predict(FakeNet(), image, mode=mode, scales=[1], flip=True, crop=16)
    torch.testing.assert_close(scores, image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mode", ["sliding", "pooling"])
def test_mirror_changes_nothing_for_a_pointwise_network(mode):
    image, net = picture(19, 41), FakeNet(lambda image: image**2)
    options = dict(mode=mode, scales=(0.5, 1.0, 1.5), crop=16)
    with_mirror, without = (predict(net, image, flip=flip, **options) for flip in (True, False))
    torch.testing.assert_close(with_mirror, without)


def test_mirror_is_averaged_at_its_own_windows():
    """9 columns, crop 4, no overlap, scores = the column in the window. Windows at 0, 4 and 5 give
    0, 1, 2, 3, 0, (1 + 0)/2, (2 + 1)/2, (3 + 2)/2, 3; to be averaged with the same from right to left.
    """
    column = FakeNet(lambda image: torch.arange(image.shape[-1]).expand(len(image), 1, image.shape[-2], -1))
    scores = predict(column, torch.zeros(1, 3, 1, 9), scales=[1], crop=4, overlap=0)
    assert scores.flatten().tolist() == [1.5, 1.75, 1.75, 1.75, 0, 1.75, 1.75, 1.75, 1.5]


def test_one_window_is_whole_inference():
    net = FakeNet(local_position)
    image = picture(24, 24)
    once = predict(net, image, mode="sliding", scales=[1.0], flip=False, crop=24)
    assert torch.equal(once, predict(net, image, mode="whole"))
    assert torch.equal(once, local_position(image))


@pytest.mark.parametrize(("mode", "shrink"), [("sliding", "BILINEAR"), ("pooling", "BICUBIC")])
def test_resizing_is_pillows(mode, shrink):
    """Scale 1/2: Pillow shrinks with antialiasing. Back, Pillow enlarges bilinear alike.

    Two classes with logits (x, 0) have the probability 1 / (1 + exp(-x)), at full size.
    """
    image = picture(20, 30)
    net = FakeNet(lambda x: torch.cat([x[:, :1], 0 * x[:, :1]], 1))
    scores = predict(net, image, mode=mode, scales=[0.5], flip=False, crop=64)[0, 0].numpy()
    small = Image.fromarray(image[0, 0].numpy()).resize((15, 10), Image.Resampling[shrink])
    expected = np.asarray(small.resize((30, 20), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(
        scores, expected if mode == "sliding" else 1 / (1 + np.exp(-expected)), atol=1e-5
    )


def test_scales_weigh_alike():
    """A network that answers with its input's height: (10 + 20 + 40) / 3 whatever the number of windows."""
    net = FakeNet(lambda image: torch.full_like(image[:, :1], image.shape[-2]))
    scores = predict(net, picture(20, 30), scales=[0.5, 1, 2], crop=20)
    torch.testing.assert_close(scores, torch.full((1, 1, 20, 30), 70 / 3))


@pytest.mark.parametrize("mode", ["sliding", "pooling", "whole"])
def test_grey_levels_are_normalized_here(mode):
    """Bytes have the scores of the normalized image, to the bit."""
    levels = torch.randint(0, 256, (1, 3, 21, 50), dtype=torch.uint8)
    options = {"mode": mode, "scales": (0.5, 1.0, 1.7), "crop": 16}
    expected = predict(FakeNet(), normalize_levels(levels), **options)
    assert torch.equal(predict(FakeNet(), levels, **options), expected)


def test_a_network_in_double_precision_is_scored():
    image = picture(21, 50).double()
    options = {"scales": (0.5, 1.0), "crop": 16}
    expected = predict(FakeNet(), image.float(), **options)
    net = FakeNet(lambda x: x + torch.zeros(1, dtype=torch.float64) if x.dtype == torch.float64 else None)
    torch.testing.assert_close(predict(net, image, **options), expected)


def test_windows_grow_with_the_scale_and_batches_stay_bounded():
    """32 x 48 px, crop 32, at most 3 windows: at 0.5 one of 16 x 24 and its mirror; at 1.0 two of 32 px
    (x = 0, 16) and two mirrored, as 3 + 1; at 2.0 windows have 64 px, 4 times the area, and go one by one.
    """
    net = FakeNet()
    predict(WindowBatcher(net, 3 * 32 * 32), picture(32, 48), scales=[0.5, 1.0, 2.0], crop=32)
    assert net.shapes == [(2, 3, 16, 24), (3, 3, 32, 32), (1, 3, 32, 32), *[(1, 3, 64, 64)] * 4]


def test_batch_of_windows_does_not_change_scores():
    net, image, options = FakeNet(local_position), picture(40, 60, batch=2), dict(scales=(0.5, 1.0), crop=16)
    one, many = (predict(WindowBatcher(net, n * 16 * 16), image, **options) for n in (1, 7))
    assert one.shape == (2, 1, 40, 60) and torch.equal(one, many)


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", NO_MEMORY)
def test_memory_that_runs_out_halves_the_batch_for_good(error):
    """48 px, crop 16, no overlap: 9 windows. There is room for 3: 8 fail, 4 fail, then 2, 2, 2, 2, 1 at once;
    the next image starts with 2.
    """

    def small_memory(image):
        if len(image) > 3:
            raise error
        return image

    image, net = picture(48, 48), FakeNet(small_memory)
    windows, options = WindowBatcher(net, 8 * 16 * 16), dict(scales=[1.0], flip=False, crop=16, overlap=0)
    assert torch.equal(predict(windows, image, **options), image)
    assert [shape[0] for shape in net.shapes] == [8, 4, 2, 2, 2, 2, 1]
    predict(windows, image, **options)
    assert [shape[0] for shape in net.shapes[7:]] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("error", "size"), [(NO_MEMORY[0], 8), (RuntimeError("another"), 16), (ValueError("another"), 16)]
)
def test_no_memory_for_one_window_and_other_errors(error, size):
    def fail(image):
        raise error

    with pytest.raises(type(error), match=str(error)):
        predict(FakeNet(fail), picture(8, size), crop=8, scales=[1.0], flip=False)


def test_pooling_averages_probabilities():
    """Logits (ln 3, 0) everywhere: probabilities 3/4, 1/4."""
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    net = FakeNet(lambda image: logits.expand(len(image), -1, *image.shape[-2:]))
    probs = predict(net, picture(5, 8), mode="pooling", scales=[0.5, 1.0, 2.0])
    torch.testing.assert_close(probs, torch.tensor([0.75, 0.25]).view(1, 2, 1, 1).expand(1, 2, 5, 8))
    assert net.shapes == [(2, 3, 2, 4), (2, 3, 5, 8), (2, 3, 10, 16)]


def test_whole_is_one_plain_pass():
    net = FakeNet()
    predict(net, picture(12, 20, batch=2), mode="whole", scales=[0.5, 2.0], flip=True)
    assert net.shapes == [(2, 3, 12, 20)]


@pytest.mark.parametrize("mode", ["sliding", "pooling", "whole"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (37, 11)])
def test_tiny_and_odd_images(mode, height, width):
    scores = predict(FakeNet(), picture(height, width), mode=mode, scales=[1.0, 1.3, 2.0], crop=5)
    assert scores.shape == (1, 3, height, width) and scores.isfinite().all()


def test_scores_are_float32_and_carry_no_gradient():
    net = FakeNet(lambda image: (image * nn.Parameter(torch.ones(1))).bfloat16())
    scores = predict(net, picture(8, 8), crop=8)
    assert scores.dtype == torch.float32 and not scores.requires_grad


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_impossible_scale(scale):
    with pytest.raises(ValueError, match=f"scale {scale}"):
        predict(FakeNet(), picture(8, 8), scales=[1.0, scale])


def test_a_scaled_image_has_at_least_one_pixel():
    net = FakeNet()
    predict(net, picture(1, 9), scales=[0.5], flip=False, crop=8)
    assert net.shapes == [(1, 3, 1, 4)]


def test_no_scales_and_unknown_mode():
    with pytest.raises(ValueError, match="at least one"):
        predict(FakeNet(), picture(8, 8), scales=[])
    with pytest.raises(ValueError, match="'tiles'.*sliding, pooling, whole"):
        predict(FakeNet(), picture(8, 8), mode="tiles")
