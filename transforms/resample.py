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
from utils.resampling import BICUBIC, WEIGHT_BITS, filter_weights, integer_weights


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
    begin, end, weights = filter_weights(size, scaled, first, last, BICUBIC)
    pixels = begin[:, None] + np.arange(weights.shape[1])
    inside = pixels < end[:, None]
    start, stop = int(begin[0]), int(end[-1])
    ends = np.append(0, np.cumsum(end - begin))
    entries = integer_weights(weights)[inside], pixels[inside] - start, ends
    return csr_array(entries, (last - first, stop - start)), start, stop


def _apply(table: csr_array, values: torch.Tensor) -> torch.Tensor:
    """Return the weighted sums of rows of `values`, int32, rounded to 0..255."""
    sums = table @ values.numpy()
    sums += 1 << (WEIGHT_BITS - 1)
    sums >>= WEIGHT_BITS
    return torch.from_numpy(sums.clip(0, 255, out=sums))
