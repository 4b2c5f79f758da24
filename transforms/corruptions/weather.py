"""Weather and light. Images are float32 (3, H, W) in [0, 1]; results may leave that range."""

import math

import numpy as np
from PIL import Image

from transforms.corruptions.convolution import convolve, motion_kernel
from transforms.corruptions.frost_texture import texture

# Of the field of flakes: mean, standard deviation, zoom, threshold, radius and sigma of its motion (px).
# The last number is the share of the image that is not whitened.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weights of image and frost
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # strength, decay of the plasma's roughness
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R 601-2
WIBBLE = 100.0  # of the plasma


def snow(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Whiten the image and add falling flakes: a layer, and the same layer turned by half a turn."""
    mean, deviation, zoom, threshold, radius, sigma, kept = SNOW[severity - 1]
    height, width = image.shape[1:]
    size = math.ceil(height / zoom), math.ceil(width / zoom)
    drawn = rng.standard_normal(size, np.float32) * np.float32(deviation) + np.float32(mean)
    box = 0, 0, min(size[1], width / zoom), min(size[0], height / zoom)
    layer = np.asarray(Image.fromarray(drawn).resize((width, height), Image.Resampling.BILINEAR, box))
    layer = np.where(layer < threshold, np.float32(0), layer.clip(0, 1))
    layer = convolve(layer, motion_kernel(int(radius), sigma, rng.uniform(-135, -45)))
    white = np.tensordot(LUMA, image, 1) * np.float32(1.5) + np.float32(0.5)
    return (
        np.float32(kept) * image + np.float32(1 - kept) * np.maximum(image, white) + layer + layer[::-1, ::-1]
    )


def frost(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add a random part of a frosted pane.

    The pane is rendered. The benchmark's own frost is five photographs, so scores differ from published ones.
    """
    weight, share = FROST[severity - 1]
    height, width = image.shape[1:]
    pane = texture(height, width)
    top, left = (rng.integers(room + 1) for room in (pane.shape[1] - height, pane.shape[2] - width))
    part = pane[:, top : top + height, left : left + width]
    return np.float32(weight) * image + np.float32(share) * part


def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add plasma and scale the sum to the largest value of the image."""
    strength, decay = FOG[severity - 1]
    height, width = image.shape[1:]
    most = image.max()
    foggy = image + np.float32(strength) * plasma(max(height, width), decay, rng)[:height, :width]
    foggy *= most / (most + np.float32(strength))
    return foggy


def plasma(least: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Return a fractal (n, n) in [0, 1] by the diamond-square algorithm; n is a power of 2, at least `least`.

    Displacements are uniform within the square of a wibble, which starts at WIBBLE and is divided by `decay`
    for every halving. The grid has no border: it goes on at the opposite side.
    """
    side = 1 << max(1, (least - 1).bit_length())
    field = np.zeros((side, side), np.float32)
    step, wibble = side, WIBBLE

    def displaced(sums: np.ndarray) -> np.ndarray:
        reach = np.float32(wibble**2)
        return sums / 4 + (rng.random(sums.shape, np.float32) * 2 - 1) * reach

    while step > 1:
        half = step // 2
        corners = field[::step, ::step].copy()
        right = corners + np.roll(corners, -1, 1)
        centers = displaced(right + np.roll(right, -1, 0))
        field[half::step, half::step] = centers
        field[::step, half::step] = displaced(right + centers + np.roll(centers, 1, 0))
        below = corners + np.roll(corners, -1, 0)
        field[half::step, ::step] = displaced(below + centers + np.roll(centers, 1, 1))
        step, wibble = half, wibble / decay
    field -= field.min()
    field /= field.max()
    return field


def brightness(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Raise the value of HSV; hue and saturation stay."""
    value = image.max(0)
    raised = np.minimum(value + np.float32(BRIGHTNESS[severity - 1]), 1)
    black = value == 0
    return np.where(black, raised, image * (raised / np.where(black, np.float32(1), value)))
