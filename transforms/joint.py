"""Geometric transforms of an image and its label together.

Each is called as `transform(image, label, centroid, rng) -> (image, label)`: a PIL RGB image, its PIL "L"
label of train ids or None, and the pixel (x, y) of the incoming image that must survive, or None. `draw`
takes the random numbers once, `apply` is free of chance and the same for image and label but for resampling
and fill.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

BLACK, IGNORE_LABEL = (0, 0, 0), 255


class Window(NamedTuple):
    """A square of `side` px at (left, top) of the image resized to (height, width); it may reach outside."""

    height: int
    width: int
    top: int
    left: int
    side: int


class RandomScaleCrop:
    """Resize by a factor uniform in [scale_min, scale_max], then take a square crop of `crop_size` px.

    `pre_size` is the shorter edge that factor 1 stands for (default: the image's own). An image too small
    in one direction is centred there on black, label 255; with `nopad` the crop shrinks to the shorter side
    instead and is resized to crop_size. A crop contains the resized centroid, its position uniform among
    those that do.
    """

    def __init__(self, crop_size: int, scale_min: float, scale_max: float, *, pre_size=None, nopad=False):
        self.crop_size, self.scale_min, self.scale_max = crop_size, scale_min, scale_max
        self.pre_size, self.nopad = pre_size, nopad

    def draw(self, height: int, width: int, centroid: tuple[int, int] | None, rng) -> Window:
        scale = rng.uniform(self.scale_min, self.scale_max)
        if self.pre_size is not None:
            scale *= self.pre_size / min(height, width)
        scaled_h, scaled_w = max(1, int(scale * height)), max(1, int(scale * width))
        side = min(self.crop_size, scaled_h, scaled_w) if self.nopad else self.crop_size
        x, y = (None, None) if centroid is None else centroid
        left = _offset(width, scaled_w, side, x, rng)
        return Window(scaled_h, scaled_w, _offset(height, scaled_h, side, y, rng), left, side)

    def apply(self, image: Image.Image, window: Window, resample: Image.Resampling, fill) -> Image.Image:
        image = image.resize((window.width, window.height), resample)
        crop = Image.new(image.mode, (window.side, window.side), fill)
        crop.paste(image, (-window.left, -window.top))
        if window.side != self.crop_size:
            crop = crop.resize((self.crop_size, self.crop_size), resample)
        return crop

    def __call__(self, image, label, centroid, rng):
        window = self.draw(image.height, image.width, centroid, rng)
        image = self.apply(image, window, Image.Resampling.BICUBIC, BLACK)
        return image, label and self.apply(label, window, Image.Resampling.NEAREST, IGNORE_LABEL)


def _offset(size: int, scaled: int, side: int, centroid: int | None, rng: np.random.Generator) -> int:
    """Draw where a crop of `side` px starts on an axis of `size` px resized to `scaled`; < 0 is padding."""
    if scaled <= side:
        return -((side - scaled) // 2)
    first, last = 0, scaled - side
    if centroid is not None:
        moved = (2 * centroid + 1) * scaled // (2 * size)  # the px that holds the centroid's middle
        first, last = max(first, moved - side + 1), min(last, moved)
    return int(rng.integers(first, last + 1))


class RandomHorizontalFlip:
    """Mirror left and right with probability 0.5."""

    def draw(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < 0.5)

    def apply(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    def __call__(self, image, label, centroid, rng):
        if not self.draw(rng):
            return image, label
        return self.apply(image), label and self.apply(label)


class RandomRotate:
    """Rotate about the middle by an angle uniform in +-`degrees`; what was outside is black, label 255."""

    def __init__(self, degrees: float):
        self.degrees = degrees

    def draw(self, rng: np.random.Generator) -> float:
        return rng.uniform(-self.degrees, self.degrees)

    def __call__(self, image, label, centroid, rng):
        angle = self.draw(rng)
        image = image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=BLACK)
        return image, label and label.rotate(angle, Image.Resampling.NEAREST, fillcolor=IGNORE_LABEL)
