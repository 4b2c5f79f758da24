"""Rotation, the legacy size of Mapillary and target views; golden/fidelity_F10 holds published arrays."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden.recipe import fidelity, image
from transforms.joint import BLACK, RandomRotate
from transforms.pil import to_tensor
from transforms.presets import target_views
from transforms.protocols import PROTOCOLS
from utils.classes import IGNORE_LABEL

F10, ARRAYS = fidelity("F10")


class Scripted:
    """A random generator whose draws are given: numbers of `uniform`, `integers` and `random` in turn."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def uniform(self, low, high):
        return self.draws.pop(0)

    def integers(self, high):
        return self.draws.pop(0)

    def random(self):
        return self.draws.pop(0)


def test_rotation():
    """Pillow turns against the clock, the published code with it; either sign is as likely."""
    case = F10["rotation"]
    pixels = image(case["seed"], *case["size"])
    label = torch.from_numpy(image(case["seed"] + 1, *case["size"])[:, :, 0] % 19)
    turned = RandomRotate(20)(to_tensor(Image.fromarray(pixels)), label, None, Scripted(-case["angle"]))
    assert (turned[0].permute(1, 2, 0).numpy() == ARRAYS["rotation/image"]).all()
    assert (turned[1].numpy() == ARRAYS["rotation/label"]).all()
    assert (turned[0][:, 0, 0] == BLACK).all() and turned[1][0, 0] == IGNORE_LABEL


@pytest.mark.parametrize("number", range(len(F10["legacy mapillary"]["cases"])))
def test_columns_of_legacy_mapillary(number):
    case = F10["legacy mapillary"]["cases"][number]
    row = (np.arange(case["width"]) // 7 % 19).astype(np.uint8)
    label = Image.fromarray(row[None].repeat(case["height"], 0))
    (square,) = PROTOCOLS["legacy"]
    _, scored = square(Image.new("RGB", label.size), label, None, None)
    assert scored.shape == (1536, 1536)
    assert (scored.numpy() == ARRAYS[f"legacy mapillary/{number}"]).all()


def test_the_first_column_of_legacy_mapillary_is_rounded_half_to_even():
    """2005 x 2000 px become 1539 x 1536: 1.5 columns too many on each side, so the first one is 2, not 1."""
    column = (np.arange(2005) * 1539 // 2005 % 250).astype(np.uint8)
    (square,) = PROTOCOLS["legacy"]
    _, scored = square(
        Image.new("RGB", (2005, 2000)), Image.fromarray(column[None].repeat(2000, 0)), None, None
    )
    assert scored.shape == (1536, 1536)
    assert scored[0, 100] == 102


@pytest.mark.parametrize("number", range(len(F10["target views"]["cases"])))
def test_the_reference_of_target_views(number):
    case = F10["target views"]["cases"][number]
    preset = target_views(tuple(case["crop"]))
    not_mirrored = 0.9
    rng = Scripted(case["zoom"], *case["offset"], not_mirrored)
    reference = preset.reference(Image.fromarray(image(case["seed"], *case["size"])), rng)
    expected = ARRAYS[f"target views/{number}"].astype(int)
    assert abs(reference.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("size", [(40, 40), (20, 70), (9, 9)])
def test_target_views_fill_the_crop_whatever_the_image_s_shape(size):
    """Left half black, right half white: so is the view, and no px is padding."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, size[1] // 2 :] = 255
    preset = target_views((16, 32))
    reference = preset.reference(Image.fromarray(pixels), Scripted(1.0, 0, 0, 0.9))
    assert (reference[:, :, :12] == 0).all() and (reference[:, :, 20:] == 255).all()
    for number in range(4):
        assert preset.view(reference, number, np.random.default_rng(number))["valid"].all()
