"""Pillow's resampling: the weights with which the px of an axis are summed up when it is resized.

Pillow resizes the columns, rounds to 8 bits, then resizes the rows. Its weights are integers, in units of
2**-WEIGHT_BITS, so its results can be repeated to the bit on any device.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

WEIGHT_BITS = 22  # Pillow's Resample.c, PRECISION_BITS


class Filter(NamedTuple):
    """A kernel of the distance in px, and its radius. Both are stretched where an axis shrinks."""

    kernel: Callable[[np.ndarray], np.ndarray]
    radius: float


def _triangle(x: np.ndarray) -> np.ndarray:
    return (1 - np.abs(x)).clip(min=0)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic kernel with a = -0.5 (IEEE TASSP 29(6), 1981) in Pillow's order of operations."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


BILINEAR, BICUBIC = Filter(_triangle, 1.0), Filter(_cubic, 2.0)


def filter_weights(
    size: int, scaled: int, first: int, last: int, filter_: Filter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what makes pixels first..last-1 of an axis of `size` px resized to `scaled` px.

    The result is (begin, end, weights): pixel i is the sum of source pixels begin[i]..end[i]-1 times
    weights[i, 0], weights[i, 1], ..., which add up to 1; weights from end[i] on are 0.
    """
    step = size / scaled
    stretch = max(step, 1.0)
    radius = filter_.radius * stretch
    centers = (np.arange(first, last) + 0.5) * step
    begin = np.maximum((centers - radius + 0.5).astype(int), 0)
    end = np.minimum((centers + radius + 0.5).astype(int), size)
    pixels = begin[:, None] + np.arange((end - begin).max())
    weights = filter_.kernel((pixels - centers[:, None] + 0.5) * (1.0 / stretch)) * (pixels < end[:, None])
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # summed in Pillow's order
    return begin, end, weights


def integer_weights(weights: np.ndarray) -> np.ndarray:
    """Return weights, int32, in units of 2**-WEIGHT_BITS, rounded as Pillow does."""
    return np.trunc(weights * (1 << WEIGHT_BITS) + np.copysign(0.5, weights)).astype(np.int32)
