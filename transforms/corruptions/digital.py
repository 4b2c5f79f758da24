"""Contrast, colour, geometry and compression. Images are float32 (3, H, W) in [0, 1]."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from transforms.corruptions.convolution import convolve, gaussian_kernel

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
ELASTIC = (0.05, 0.065, 0.085, 0.1, 0.12)  # of a factor of 250
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the sides
JPEG = (25, 18, 15, 10, 7)  # quality
SATURATE = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))  # factor and summand of the saturation


def contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Move every value towards the mean of its channel."""
    mean = image.mean((1, 2), np.float64, keepdims=True).astype(np.float32)
    return (image - mean) * np.float32(CONTRAST[severity - 1]) + mean


def elastic_transform(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Displace every pixel by a smooth random field.

    The field is uniform within 0.005 H, smoothed by a Gaussian of sigma (0.01 H, 0.01 W) that is cut at
    3 sigma, times 250 times a constant. The label stays where it is.
    """
    height, width = image.shape[1:]
    reach = 0.005 * height
    kernel = np.outer(gaussian_kernel(0.01 * height, 3), gaussian_kernel(0.01 * width, 3))
    drawn = (rng.random((2, height, width), np.float32) * 2 - 1) * np.float32(reach)
    field = convolve(drawn, kernel, "symmetric") * np.float32(250 * ELASTIC[severity - 1])
    field[0] += np.arange(height, dtype=np.float32)[:, None]
    field[1] += np.arange(width, dtype=np.float32)
    return np.stack([ndimage.map_coordinates(channel, field, order=1, mode="reflect") for channel in image])


def pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Average over boxes and enlarge them to pixels of one colour."""
    share = PIXELATE[severity - 1]
    picture = to_picture(image)
    small = max(1, int(picture.width * share)), max(1, int(picture.height * share))
    boxes = picture.resize(small, Image.Resampling.BOX)
    return from_picture(boxes.resize(picture.size, Image.Resampling.NEAREST))


def jpeg_compression(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Compress with a low quality of JPEG."""
    file = io.BytesIO()
    to_picture(image).save(file, "JPEG", quality=JPEG[severity - 1])
    with Image.open(file) as picture:
        return from_picture(picture)


def saturate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Change the saturation of HSV; hue and value stay. The hue of grey is red, as usual in HSV."""
    factor, summand = SATURATE[severity - 1]
    value = image.max(0)
    chroma = value - image.min(0)
    grey = chroma == 0
    saturation = np.where(grey, np.float32(0), chroma / np.where(value == 0, np.float32(1), value))
    changed = np.clip(saturation * np.float32(factor) + np.float32(summand), 0, 1) * value
    # How far below the value a channel is, relative to the chroma: 0 to 1.
    depth = (value - image) / np.where(grey, np.float32(1), chroma)
    depth[1:, grey] = 1
    return value - depth * changed


def to_picture(image: np.ndarray) -> Image.Image:
    """Return float32 (3, H, W) in [0, 1] as an 8-bit picture."""
    return Image.fromarray((image.transpose(1, 2, 0) * np.float32(255) + np.float32(0.5)).astype(np.uint8))


def from_picture(picture: Image.Image) -> np.ndarray:
    """Undo `to_picture`."""
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255
