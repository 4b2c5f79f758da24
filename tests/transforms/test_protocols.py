"""Validation sizes. Colours are whole, so that resizing keeps them."""

import numpy as np
import pytest
import torch
from PIL import Image

from transforms.protocols import PROTOCOLS, HeightThenSquare, half


def pair(width, height):
    return Image.new("RGB", (width, height), (200, 100, 50)), Image.new("L", (width, height), 7)


def test_half_rounds_down():
    image, label = half(*pair(7, 4), None, None)
    assert image.shape == (3, 2, 3) and image[:, 0, 0].tolist() == [200, 100, 50]
    assert label.tolist() == [[7] * 3] * 2
    assert half(*pair(1, 1), None, None)[0].shape == (3, 1, 1)
    assert half(pair(4, 4)[0], None, None, None)[1] is None


def test_a_wide_image_loses_as_much_left_as_right():
    """20x10 px to a square of 10: columns 5..14; the label's columns hold their number."""
    label = Image.fromarray(np.arange(20, dtype=np.uint8)[None].repeat(10, 0))
    image, label = HeightThenSquare(10)(pair(20, 10)[0], label, None, None)
    assert image.shape == (3, 10, 10)
    assert label[0].tolist() == list(range(5, 15))


@pytest.mark.parametrize(("width", "left", "right"), [(5, 2, 3), (6, 2, 2), (9, 0, 1)])
def test_a_narrow_image_is_padded_on_both_sides(width, left, right):
    """NOTE(published): padding was labelled road there and lay on one side; ours is 255 and centred."""
    image, label = HeightThenSquare(10)(*pair(width, 10), None, None)
    inside = np.zeros(10, bool)
    inside[left : 10 - right] = True
    assert (label[:, inside] == 7).all() and (label[:, ~inside] == 255).all()
    assert (image[..., ~inside] == 0).all()
    assert (image[..., inside].permute(1, 2, 0) == torch.tensor([200, 100, 50])).all()


def test_scaling_keeps_the_proportion():
    """15x30 px to a height of 20: 10 px wide."""
    _, label = HeightThenSquare(20)(*pair(15, 30), None, None)
    assert (label == 7).sum() == 20 * 10


def test_the_protocols():
    assert set(PROTOCOLS) == {"legacy", "full", "half"}
    assert PROTOCOLS["legacy"][0].side == 1536
