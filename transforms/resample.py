"""Windows of a resized image, pixel for pixel those of Pillow's `resize`, without resizing what lies outside.

Pillow's own `box` argument is no help: it holds 32-bit floats, so most windows come out a grey level off here
and there. Its arithmetic is simple enough to repeat: per axis a table of 22-bit integer weights, applied to
the columns, rounded to 8 bits, then applied to the rows. Here the tables are sparse matrices.
"""

import numpy as np
from PIL import Image
from scipy.sparse import csr_array

WEIGHT_BITS = 22  # Pillow's Resample.c, PRECISION_BITS
SUPPORT = 2.0  # px that the bicubic kernel reaches to either side


def bicubic_window(image, height: int, width: int, box: tuple[int, int, int, int]) -> Image.Image:
    """Return `image.resize((width, height), BICUBIC).crop(box)` for an RGB image and a box inside.

    Of the image only `width`, `height` and `crop` are used. The box is (left, top, right, bottom) in px of
    the resized image.
    """
    if image.height - height > max(0, 2 * (image.width - width)):  # Pillow >= 13 does the rows first there
        whole = image.crop((0, 0, image.width, image.height))
        return whole.resize((width, height), Image.Resampling.BICUBIC).crop(box)
    left, top, right, bottom = box
    columns, x0, x1 = bicubic_table(image.width, width, left, right)
    rows, y0, y1 = bicubic_table(image.height, height, top, bottom)
    unlike_power_of_2 = (y1 - y0) | 4  # lines 4 KiB apart would make transposing five times slower
    part = image.crop((x0, y0, x1, y0 + unlike_power_of_2)).transpose(Image.Transpose.TRANSPOSE)
    part = _apply_to_rows(columns, part).transpose(Image.Transpose.TRANSPOSE)
    return _apply_to_rows(rows, part)


def nearest_indices(size: int, scaled: int, first: int, last: int) -> np.ndarray:
    """Return the sources of pixels first..last-1 of an axis of `size` px resized to `scaled`, nearest."""
    step = size / scaled
    return np.add.accumulate([step / 2, *[step] * (last - 1)])[first:].astype(np.intp)  # Pillow sums too


def bicubic_table(size: int, scaled: int, first: int, last: int) -> tuple[csr_array, int, int]:
    """Return the weights of pixels first..last-1 of an axis of `size` px resized to `scaled`.

    They are an int32 matrix (last - first, stop - start), followed by start and stop: the source pixels used.
    """
    step = size / scaled
    stretch = max(step, 1.0)
    centers = (np.arange(first, last) + 0.5) * step
    begin = np.maximum((centers - SUPPORT * stretch + 0.5).astype(int), 0)
    end = np.minimum((centers + SUPPORT * stretch + 0.5).astype(int), size)
    pixels = begin[:, None] + np.arange((end - begin).max())
    inside = pixels < end[:, None]
    weights = bicubic((pixels - centers[:, None] + 0.5) * (1.0 / stretch)) * inside
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # in Pillow's order
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


def _apply_to_rows(table: csr_array, image: Image.Image) -> Image.Image:
    values = np.asarray(image)[: table.shape[1]]
    sums = table @ values.reshape(len(values), -1).astype(np.int32)
    sums += 1 << (WEIGHT_BITS - 1)
    sums >>= WEIGHT_BITS
    return Image.fromarray(sums.clip(0, 255, out=sums).astype(np.uint8).reshape(len(sums), *values.shape[1:]))
