"""Noise. Images are float32 (3, H, W) in [0, 1]; results may leave that range, except where it says so."""

from functools import lru_cache

import numpy as np
from scipy.special import pdtr

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation
SHOT = (60, 25, 12, 5, 3)  # photons at full scale
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)  # standard deviation relative to the value


def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise, independent for each value."""
    drawn = rng.standard_normal(image.shape, np.float32)
    drawn *= np.float32(GAUSSIAN[severity - 1])
    drawn += image
    return drawn


def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Replace each value by a Poisson number of photons over their number at full scale.

    The numbers come from a table of 2^16 quantiles for each of the 256 grey levels, so that probabilities are
    rounded to multiples of 2^-16.
    """
    photons = SHOT[severity - 1]
    level = (image * 255 + 0.5).astype(np.int32)
    level <<= 16
    level += rng.integers(0, 1 << 16, image.shape, np.uint16)
    return poisson_quantiles(photons).take(level) * np.float32(1 / photons)


@lru_cache(maxsize=1)
def poisson_quantiles(photons: int) -> np.ndarray:
    """Return uint8 (256 * 2^16,): the Poisson quantiles of every grey level in turn."""
    counts = np.arange(256)
    table = np.empty((256, 1 << 16), np.uint8)
    for level in range(256):
        ends = np.rint(pdtr(counts, photons * level / 255) * (1 << 16)).astype(int)
        table[level] = np.repeat(counts, np.diff(ends, prepend=0))
    return table.ravel()


def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Replace a share of the values by 0 or 1, each with the same probability."""
    half = np.float32(IMPULSE[severity - 1] / 2)
    drawn = rng.random(image.shape, np.float32)
    changed = np.where(drawn < half, np.float32(0), image)
    changed[drawn >= 1 - half] = 1
    return changed


def speckle_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise in proportion to the value."""
    drawn = rng.standard_normal(image.shape, np.float32)
    drawn *= np.float32(SPECKLE[severity - 1])
    drawn *= image
    drawn += image
    return drawn
