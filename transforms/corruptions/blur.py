"""Blur. Images are float32 (3, H, W) in [0, 1]."""

import math

import numpy as np
from PIL import Image
from scipy import ndimage

from transforms.corruptions.convolution import convolve, gaussian, motion_kernel

DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius of the disk, sigma of its edge, px
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma px, largest shift px, rounds
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma, px
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # factors are below, step
GAUSSIAN = (1, 2, 3, 4, 6)  # sigma, px


def defocus_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a disk."""
    return convolve(image, disk(*DEFOCUS[severity - 1]), "reflect")


def disk(radius: int, alias: float) -> np.ndarray:
    """Return the kernel of a disk whose edge is smoothed by a Gaussian of sigma `alias` px; its sum is 1."""
    side = np.arange(-max(8, radius), max(8, radius) + 1)
    inside = (side[:, None] ** 2 + side**2 <= radius**2).astype(float)
    taps = np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3)
    edge = np.exp(-0.5 * (taps / alias) ** 2)
    smooth = ndimage.correlate(inside, np.outer(edge, edge), mode="mirror")
    return smooth / smooth.sum()


def gaussian_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a Gaussian."""
    return gaussian(image, GAUSSIAN[severity - 1])


def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Move the image in a direction within 45 degrees of the horizontal."""
    return convolve(image, motion_kernel(*MOTION[severity - 1], rng.uniform(-45, 45)))


def zoom_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Average the image and linear zooms of its middle by 1, 1 + step, .. below the last factor."""
    last, step = ZOOM[severity - 1]
    count = math.ceil(round((last - 1) / step, 6))
    height, width = image.shape[1:]
    total = 2 * image  # the image itself, and its zoom by 1
    for factor in 1 + step * np.arange(1, count):
        x, y = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
        box = x, y, width - x, height - y
        for channel, result in zip(image, total, strict=True):
            result += Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR, box)
    return total / np.float32(count + 1)


def glass_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Blur, swap pixels with near ones, and blur again."""
    sigma, shift, rounds = GLASS[severity - 1]
    blurred = np.floor(gaussian(image, sigma) * 255 + np.float32(1e-3))  # 8 bits, as the benchmark has here
    order = shuffled(image.shape[1:], shift, rounds, rng)
    return gaussian(blurred.reshape(3, -1)[:, order].reshape(image.shape) / np.float32(255), sigma)


def shuffled(size: tuple[int, int], shift: int, rounds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the source (H W,) of every pixel after `rounds` of swaps over an image of `size`.

    One after another, from row H - shift and column W - shift down to shift + 1, each
    pixel swaps places with the one that is -shift to shift - 1 px away in either direction.

    Swaps that are more than 2 shift - 1 columns apart touch different pixels. So swap (row, column) is made
    in step -column - 2 shift row, together with all others of this step: they are 2 shift columns apart. An
    earlier swap that touches the same pixels has an earlier step, so the result is that of single swaps.
    """
    height, width = size
    order = np.arange(height * width)
    lead = 2 * shift  # columns by which a row must be ahead of the row above it
    rows, columns = (shift + 1, height - shift + 1), (shift + 1, width - shift + 1)  # end exclusive
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return order
    for _ in range(rounds):
        dy, dx = rng.integers(-shift, shift, (2, height * width), np.int64)
        partner = np.arange(height * width) + dy * width + dx
        for step in range(columns[1] - 1 + lead * (rows[1] - 1), columns[0] + lead * rows[0] - 1, -1):
            # Rows whose column step - lead * row is inside.
            first = max(rows[0], -((columns[1] - 1 - step) // lead))
            last = min(rows[1] - 1, (step - columns[0]) // lead)
            if first <= last:
                start, stride = first * width + step - lead * first, width - lead
                here = slice(start, start + stride * (last - first) + 1, stride)
                there = partner[here]
                order[here], order[there] = order[there], order[here].copy()
    return order
