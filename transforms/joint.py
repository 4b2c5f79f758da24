"""Geometric transforms of an image and its label together.

`draw` takes the random numbers once. `apply` is deterministic; image and label differ only in resampling and
fill. The crop decodes and returns tensors; all other transforms take and return tensors.
"""

from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transforms.pil import Croppable, to_pil, to_tensor
from transforms.resample import bicubic_window, nearest_indices
from utils.classes import IGNORE_LABEL

BLACK = 0
Pixel = tuple[int, int]  # (x, y)
Input = TypeVar("Input", contravariant=True)


class JointTransform(Protocol[Input]):
    """Called as `transform(image, label, centroid, rng) -> (image, label)`.

    `image` is RGB, `label` holds its train ids or is None. Both are PIL images or stand-ins (`Croppable`) for
    the first transform and uint8 tensors, (3, H, W) and (H, W), for those after it, which is what all return.
    `centroid` is the pixel of the image that the result must contain, or None.
    """

    def __call__(
        self, image: Input, label: Input | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]: ...


class Window(NamedTuple):
    """A square of `side` px at (left, top) of an image resized to (height, width); it may reach outside."""

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

    At factor 1 the shorter edge has `pre_size` px (default: that of the image). An image too small in one
    direction is centred there; the padding is black, its label 255. With `nopad` the crop shrinks to the
    shorter side instead and is resized to crop_size. Without a centroid, the position of the crop is uniform.
    With one, it is uniform among those that contain the centroid's px in the resized image, then moved into
    the image. So a centroid near a border puts many crops exactly at that border, as in the published code.
    """

    def __init__(
        self,
        crop_size: int,
        scale_min: float,
        scale_max: float,
        *,
        pre_size: int | None = None,
        nopad: bool = False,
    ):
        self.crop_size, self.scale_min, self.scale_max = crop_size, scale_min, scale_max
        self.pre_size, self.nopad = pre_size, nopad

    def draw(self, height: int, width: int, centroid: Pixel | None, rng: np.random.Generator) -> Window:
        """Draw a window for an image of `height` x `width` px."""
        scale = rng.uniform(self.scale_min, self.scale_max)
        if self.pre_size is not None:
            scale *= self.pre_size / min(height, width)
        scaled_h, scaled_w = max(1, int(scale * height)), max(1, int(scale * width))
        side = min(self.crop_size, scaled_h, scaled_w) if self.nopad else self.crop_size
        x, y = (None, None) if centroid is None else (int(scale * along) for along in centroid)
        left = _offset(scaled_w, side, x, rng)
        return Window(scaled_h, scaled_w, _offset(scaled_h, side, y, rng), left, side)

    def apply(self, image: Croppable, window: Window) -> Tensor:
        """Return the RGB crop. Its pixels equal those of the whole image resized, which is never computed."""
        part = bicubic_window(image, window.height, window.width, window.inside)
        return self._padded(part, window, BLACK, Image.Resampling.BICUBIC)

    def apply_to_label(self, label: Croppable, window: Window) -> Tensor:
        """Return the crop of train ids; only the source pixels of the window are read."""
        left, top, right, bottom = window.inside
        columns = nearest_indices(label.width, window.width, left, right)
        rows = nearest_indices(label.height, window.height, top, bottom)
        part = np.asarray(label.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)))
        part = part.take(rows - rows[0], axis=0).take(columns - columns[0], axis=1)
        return self._padded(torch.from_numpy(part), window, IGNORE_LABEL, Image.Resampling.NEAREST)

    def _padded(self, part: Tensor, window: Window, fill: int, resample: Image.Resampling) -> Tensor:
        """Return the visible `part` of a window with its padding, resized to crop_size."""
        crop, (height, width) = part, part.shape[-2:]
        if (height, width) != (window.side, window.side):
            crop = part.new_full((*part.shape[:-2], window.side, window.side), fill)
            top, left = max(0, -window.top), max(0, -window.left)
            crop[..., top : top + height, left : left + width] = part
        if window.side != self.crop_size:
            crop = to_tensor(to_pil(crop).resize((self.crop_size, self.crop_size), resample))
        return crop

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        window = self.draw(image.height, image.width, centroid, rng)
        return self.apply(image, window), None if label is None else self.apply_to_label(label, window)


def _offset(size: int, side: int, centroid: int | None, rng: np.random.Generator) -> int:
    """Draw where a crop of `side` px starts on a resized axis of `size` px; < 0 is padding before it."""
    if size <= side:
        return -((side - size) // 2)
    if centroid is None:
        return int(rng.integers(size - side + 1))
    return int(rng.integers(centroid - side + 1, centroid + 1).clip(0, size - side))


class RandomHorizontalFlip:
    """Mirror left and right with probability 0.5."""

    def draw(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < 0.5)

    def __call__(
        self, image: Tensor, label: Tensor | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if not self.draw(rng):
            return image, label
        return image.flip(-1), None if label is None else label.flip(-1)


class RandomRotate:
    """Rotate about the middle by an angle uniform in +-`degrees`; the corners become black, label 255.

    The image is interpolated bicubically.
    """

    def __init__(self, degrees: float):
        self.degrees = degrees

    def draw(self, rng: np.random.Generator) -> float:
        return rng.uniform(-self.degrees, self.degrees)

    def apply(self, values: Tensor, angle: float, resample: Image.Resampling, fill: int) -> Tensor:
        color = (fill,) * len(values) if values.ndim == 3 else fill
        return to_tensor(to_pil(values).rotate(angle, resample, fillcolor=color))

    def __call__(
        self, image: Tensor, label: Tensor | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        angle = self.draw(rng)
        if label is not None:
            label = self.apply(label, angle, Image.Resampling.NEAREST, IGNORE_LABEL)
        return self.apply(image, angle, Image.Resampling.BICUBIC, BLACK), label
