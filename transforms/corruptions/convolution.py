"""Convolution of planar images with small kernels, by the fast Fourier transform on one thread."""

import numpy as np
from scipy import fft


def convolve(values: np.ndarray, kernel: np.ndarray, border: str = "edge") -> np.ndarray:
    """Return `values` (..., H, W), float32, convolved with a `kernel` (h, w) of odd sides.

    `border` is a mode of np.pad: "edge", "reflect" (the border once) or "symmetric" (the border twice).
    """
    height, width = values.shape[-2:]
    rows, columns = (side // 2 for side in kernel.shape)
    margins = [(0, 0)] * (values.ndim - 2) + [(rows, rows), (columns, columns)]
    padded = np.pad(values, margins, border)  # type: ignore[call-overload]
    size = [fft.next_fast_len(side, real=True) for side in padded.shape[-2:]]
    spectrum = fft.rfft2(padded, size)
    spectrum *= fft.rfft2(kernel.astype(np.float32), size)
    # A circular convolution of this size is wrong only in the first rows and columns, which are cut off.
    whole = fft.irfft2(spectrum, size)
    return whole[..., 2 * rows : 2 * rows + height, 2 * columns : 2 * columns + width]


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """Return the weights (2 r + 1,) of a Gaussian with r = truncate * sigma, rounded; their sum is 1."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return `values` (..., H, W) blurred with a standard deviation of `sigma` px."""
    kernel = gaussian_kernel(sigma)
    return convolve(values, np.outer(kernel, kernel))


def motion_kernel(radius: int, sigma: float, angle: float) -> np.ndarray:
    """Return the kernel of a motion of 2 r + 1 px, which fades as a half Gaussian, at `angle` degrees.

    Step i of the motion is rounded to whole pixels and has the weight exp(-i^2 / (2 sigma^2)), normalized.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    turn = np.deg2rad(angle)
    y, x = (np.rint(steps * part).astype(int) + 2 * radius for part in (np.sin(turn), np.cos(turn)))
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    np.add.at(kernel, (y, x), weights / weights.sum())
    return kernel
