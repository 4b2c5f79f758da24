"""Geometric transforms of an image and its label together.

Each is called as `transform(image, label, centroid, rng) -> (image, label)`: an RGB image, its label of train
ids or None, and the pixel (x, y) of the incoming image that must survive, or None. `draw` takes the random
numbers once, `apply` is free of chance and the same for image and label but for resampling and fill.

The crop takes PIL images or stand-ins (see transforms.pil) and returns uint8 tensors, (3, H, W) and (H, W),
which the others take and return.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from transforms.pil import to_pil, to_tensor
from transforms.resample import bicubic_window, nearest_indices
from utils.classes import IGNORE_LABEL

BLACK = 0


class Window(NamedTuple):
    """A square of `side` px at (left, top) of the image resized to (height, width); it may reach outside."""

    height: int
    width: int
    top: int
    left: int
    side: int

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """The part within the resized image, (left, top, right, bottom)."""
        right, bottom = min(self.width, self.left + self.side), min(self.height, self.top + self.side)
        return max(0, self.left), max(0, self.top), right, bottom


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

    def apply(self, image, window: Window) -> torch.Tensor:
        """Return the RGB crop: pixel for pixel that of the whole image resized, but computed alone."""
        part = bicubic_window(image, window.height, window.width, window.inside)
        return self._padded(part, window, BLACK, Image.Resampling.BICUBIC)

    def apply_to_label(self, label, window: Window) -> torch.Tensor:
        """Return the crop of train ids; only source pixels from the window's first to its last are read."""
        left, top, right, bottom = window.inside
        columns = nearest_indices(label.width, window.width, left, right)
        rows = nearest_indices(label.height, window.height, top, bottom)
        values = np.asarray(label.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)))
        values = torch.from_numpy(values.take(rows - rows[0], axis=0).take(columns - columns[0], axis=1))
        return self._padded(values, window, IGNORE_LABEL, Image.Resampling.NEAREST)

    def _padded(self, part: torch.Tensor, window: Window, fill: int, resample) -> torch.Tensor:
        crop, (height, width) = part, part.shape[-2:]
        if (height, width) != (window.side, window.side):
            crop = part.new_full((*part.shape[:-2], window.side, window.side), fill)
            top, left = max(0, -window.top), max(0, -window.left)
            crop[..., top : top + height, left : left + width] = part
        if window.side != self.crop_size:
            crop = to_tensor(to_pil(crop).resize((self.crop_size, self.crop_size), resample))
        return crop

    def __call__(self, image, label, centroid, rng):
        window = self.draw(image.height, image.width, centroid, rng)
        return self.apply(image, window), None if label is None else self.apply_to_label(label, window)


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

    def __call__(self, image, label, centroid, rng):
        if not self.draw(rng):
            return image, label
        return image.flip(-1), None if label is None else label.flip(-1)


class RandomRotate:
    """Rotate about the middle by an angle uniform in +-`degrees`; what was outside is black, label 255."""

    def __init__(self, degrees: float):
        self.degrees = degrees

    def draw(self, rng: np.random.Generator) -> float:
        return rng.uniform(-self.degrees, self.degrees)

    def apply(self, values: torch.Tensor, angle: float, resample, fill: int) -> torch.Tensor:
        fill = (fill,) * len(values) if values.ndim == 3 else fill
        return to_tensor(to_pil(values).rotate(angle, resample, fillcolor=fill))

    def __call__(self, image, label, centroid, rng):
        angle = self.draw(rng)
        if label is not None:
            label = self.apply(label, angle, Image.Resampling.NEAREST, IGNORE_LABEL)
        return self.apply(image, angle, Image.Resampling.BILINEAR, BLACK), label
