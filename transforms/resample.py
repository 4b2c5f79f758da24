"""Windows of a resized image whose pixels equal those of Pillow's `resize`, without resizing the rest.

Pillow's own `box` argument cannot be used: it holds 32-bit floats, so some pixels of most windows are off by
one grey level. Its arithmetic is repeated here instead: a table of 22-bit integer weights per axis is applied
to the columns, rounded to 8 bits, then applied to the rows. The tables are sparse matrices, used per channel.
"""

import numpy as np
import torch
from PIL import Image
from scipy.sparse import csr_array

from transforms.pil import Croppable, pixels, to_tensor

WEIGHT_BITS = 22  # Pillow's Resample.c, PRECISION_BITS
SUPPORT = 2.0  # px, radius of the bicubic kernel


def bicubic_window(image: Croppable, height: int, width: int, box: tuple[int, int, int, int]) -> torch.Tensor:
    """Return `image.resize((width, height), BICUBIC).crop(box)`, uint8 (3, H, W), for an RGB image.

    The box is (left, top, right, bottom) in px of the resized image, within it.
    """
    if image.height - height > max(0, 2 * (image.width - width)):  # Pillow >= 13 resizes the rows first then
        return to_tensor(pixels(image).resize((width, height), Image.Resampling.BICUBIC).crop(box))
    left, top, right, bottom = box
    columns, x0, x1 = bicubic_table(image.width, width, left, right)
    rows, y0, y1 = bicubic_table(image.height, height, top, bottom)
    part = torch.from_numpy(np.array(image.crop((x0, y0, x1, y1))))
    window = torch.empty(3, bottom - top, right - left, dtype=torch.uint8)
    for channel, resized in zip(part.permute(2, 1, 0).contiguous().int(), window, strict=True):
        resized.copy_(_apply(rows, _apply(columns, channel).t().contiguous()))
    return window


def nearest_indices(size: int, scaled: int, first: int, last: int) -> np.ndarray:
    """Return the nearest sources of pixels first..last-1 of an axis of `size` px resized to `scaled` px."""
    step = size / scaled
    return np.add.accumulate([step / 2, *[step] * (last - 1)])[first:].astype(np.intp)  # Pillow sums, too


def bicubic_table(size: int, scaled: int, first: int, last: int) -> tuple[csr_array, int, int]:
    """Return the weights of pixels first..last-1 of an axis of `size` px resized to `scaled` px.

    The result is (weights, start, stop): source pixels start..stop-1 are used, and the weights are an int32
    matrix (last - first, stop - start).
    """
    step = size / scaled
    stretch = max(step, 1.0)
    centers = (np.arange(first, last) + 0.5) * step
    begin = np.maximum((centers - SUPPORT * stretch + 0.5).astype(int), 0)
    end = np.minimum((centers + SUPPORT * stretch + 0.5).astype(int), size)
    pixels = begin[:, None] + np.arange((end - begin).max())
    inside = pixels < end[:, None]
    weights = bicubic((pixels - centers[:, None] + 0.5) * (1.0 / stretch)) * inside
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # summed in Pillow's order
    weights = np.trunc(weights * (1 << WEIGHT_BITS) + np.copysign(0.5, weights)).astype(np.int32)
    start, stop = int(begin[0]), int(end[-1])
    ends = np.append(0, np.cumsum(end - begin))
    matrix = csr_array((weights[inside], pixels[inside] - start, ends), (last - first, stop - start))
    return matrix, start, stop


def bicubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic kernel with a = -0.5 (IEEE TASSP 29(6), 1981) in Pillow's order of operations."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _apply(table: csr_array, values: torch.Tensor) -> torch.Tensor:
    """Return the weighted sums of rows of `values`, int32, rounded to 0..255."""
    sums = table @ values.numpy()
    sums += 1 << (WEIGHT_BITS - 1)
    sums >>= WEIGHT_BITS
    return torch.from_numpy(sums.clip(0, 255, out=sums))
