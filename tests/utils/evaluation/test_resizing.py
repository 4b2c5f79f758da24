import numpy as np
import pytest
import torch
from PIL import Image

from utils.evaluation.resizing import Resizable
from utils.pixels import grey_levels, has_grey_levels, normalize_, normalize_levels
from utils.resampling import BICUBIC, BILINEAR

PILLOW = {BILINEAR: Image.Resampling.BILINEAR, BICUBIC: Image.Resampling.BICUBIC}


def picture(kind, height, width):
    """Return uint8 (height, width, 3): noise, or black and white, where cubic kernels overshoot most."""
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    return noise if kind == "noise" else np.where(noise < 128, np.uint8(0), np.uint8(255))


def normalized(pixels):
    return normalize_(torch.from_numpy(pixels).permute(2, 0, 1).float())


@pytest.mark.parametrize("filter_", PILLOW, ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("kind", ["noise", "black and white"])
@pytest.mark.parametrize("size", [(24, 40), (40, 24), (7, 31), (1, 9)])
@pytest.mark.parametrize("scale", [0.3, 0.5, 0.75, 1.25, 1.75, 2.0])
def test_images_of_8_bits_are_resized_as_by_pillow(size, kind, scale, filter_):
    """Columns first, then rows, as Pillow did when the published code was written."""
    pixels = picture(kind, *size)
    height, width = (max(1, int(side * scale)) for side in size)
    columns = Image.fromarray(pixels).resize((width, size[0]), PILLOW[filter_])
    expected = normalized(np.array(columns.resize((width, height), PILLOW[filter_])))
    images = Resizable(torch.stack([normalized(pixels), normalized(pixels[:, ::-1].copy())]))
    straight, mirrored = images.resized(height, width, filter_)
    torch.testing.assert_close(straight, expected, rtol=0, atol=0)
    torch.testing.assert_close(mirrored.flip(-1), expected, rtol=0, atol=1.01 / 255 / 0.224)


def test_images_normalized_by_their_own_colours_are_resized_as_floats():
    """The triangle over two px on each side weighs them 1/8, 3/8, 3/8, 1/8; at the border 3/7, 3/7, 1/7."""
    line = torch.tensor([0.1, 1.7, -2.0, 0.4]).expand(1, 3, 1, 4)
    expected = torch.tensor([(3 * 0.1 + 3 * 1.7 - 2.0) / 7, (1.7 - 3 * 2.0 + 3 * 0.4) / 7])
    torch.testing.assert_close(Resizable(line).resized(1, 2, BILINEAR), expected.expand(1, 3, 1, 2))


def test_the_same_size_is_the_image_itself():
    image = torch.rand(1, 3, 4, 5)
    assert Resizable(image).resized(4, 5, BILINEAR) is image


def test_grey_levels():
    levels = torch.arange(256, dtype=torch.uint8).expand(2, 3, 300, 256).contiguous()
    image = normalize_levels(levels)
    assert has_grey_levels(image) and torch.equal(grey_levels(image), levels)
    image[1, 2, 299, 255] += 0.02 / 255 / 0.225  # two hundredths of a level
    assert not has_grey_levels(image)
    assert not has_grey_levels(normalize_levels(levels[:1]) + 2 / 255 / 0.224)  # 256 and 257
    assert not has_grey_levels(normalize_(levels[0].float(), per_image=True))
