"""Resizing of images, whole or in parts, and of scores: weighted sums along one axis after the other.

The published code resizes images of 8 bits with Pillow. An image that is ImageNet's normalization of such
grey levels is resized to the same levels, to the bit. Others, as those normalized by their own mean and
standard deviation, are resized as floats.
"""

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.pixels import grey_levels, has_grey_levels, normalize_levels
from utils.resampling import WEIGHT_BITS, Filter, filter_weights, integer_weights


def normalized(image: Tensor) -> Tensor:
    """Return images (..., 3, H, W), which are grey levels if they are uint8, normalized."""
    return normalize_levels(image) if image.dtype == torch.uint8 else image


class Taps(NamedTuple):
    """A linear map along one axis: output i is the sum over t of weight[t, i] * input[source[t, i]].

    Integer weights are in units of 2**-WEIGHT_BITS. Their sums are rounded to 0..255.
    """

    source: Tensor  # (T, n) int64
    weight: Tensor  # (T, n) float32 or int32

    def to(self, device: torch.device) -> "Taps":
        return Taps(self.source.to(device), self.weight.to(device))

    def apply(self, x: Tensor, dim: int) -> Tensor:
        """Map `x` along `dim`, which is -1 or -2."""
        total: Tensor | None = None
        for index, weight in zip(self.source, self.weight, strict=True):
            part = x.index_select(dim, index)
            part = part.to(torch.promote_types(part.dtype, weight.dtype))  # grey levels as int32
            part.mul_(weight if dim == -1 else weight[:, None])
            total = part if total is None else total.add_(part)
        assert total is not None  # there is a tap
        if total.is_floating_point():
            return total
        return total.add_(1 << (WEIGHT_BITS - 1)).bitwise_right_shift_(WEIGHT_BITS).clamp_(0, 255)


def used(source: Tensor, weight: Tensor) -> Taps:
    """Return the taps that have a weight anywhere."""
    some = weight.any(1)
    return Taps(source[some], weight[some])


class Span(NamedTuple):
    """Which px [low, high) of an axis are used, and how, counted from `low`."""

    low: int
    high: int
    taps: Taps

    def to(self, device: torch.device) -> "Span":
        return self._replace(taps=self.taps.to(device))


@lru_cache(256)  # a copy to a device makes the host wait for it, and the images of a dataset have few sizes
def span_of(
    side: int, scaled: int, part: tuple[int, int], filter_: Filter, integer: bool, device: torch.device
) -> Span:
    """Return how the px of `part` of a side resized to `scaled` px are made, on a device."""
    begin, _, weights = filter_weights(side, scaled, *part, filter_)
    index = np.minimum(begin[:, None] + np.arange(weights.shape[1]), side - 1)
    low, high = int(index.min()), int(index.max()) + 1
    values = integer_weights(weights) if integer else weights.astype(np.float32)
    taps = used(torch.from_numpy(index.T - low), torch.from_numpy(values.T.copy()))
    return Span(low, high, taps.to(device))


class Resizable:
    """Images (..., 3, H, W) of which parts are resized: normalized float32, or grey levels uint8."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    @cached_property
    def has_levels(self) -> bool:
        """Whether the images are of grey levels. For normalized images the host waits for the device."""
        return self.image.dtype == torch.uint8 or has_grey_levels(self.image)

    def span(self, side: int, scaled: int, first: int, last: int, filter_: Filter) -> Span:
        """Return how the px [first, last) of a side resized to `scaled` px are made."""
        return span_of(side, scaled, (first, last), filter_, self.has_levels, self.image.device)

    def part(self, rows: Span, columns: Span) -> Tensor:
        """Return the part of the resized images that the spans make, normalized."""
        pixels = self.image[..., rows.low : rows.high, columns.low : columns.high]
        if self.has_levels and pixels.dtype != torch.uint8:
            pixels = grey_levels(pixels)
        resized = rows.taps.apply(columns.taps.apply(pixels, -1), -2)
        return normalize_levels(resized) if self.has_levels else resized

    def resized(self, height: int, width: int, filter_: Filter) -> Tensor:
        """Return the whole images in another size, normalized (..., 3, height, width)."""
        if self.image.shape[-2:] == (height, width):
            return normalized(self.image)
        rows = self.span(self.image.shape[-2], height, 0, height, filter_)
        return self.part(rows, self.span(self.image.shape[-1], width, 0, width, filter_))
