"""Image files of which a crop decodes no more rows than it needs."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
# Width, height, 5 bytes of which the last is interlacing, and a checksum follow it.
PNG_END = b"IEND\xaeB`\x82"


class LazyImage:
    """An opened file that stands in for a PIL image where that is cropped first or turned into an array.

    `size` is (width, height) px. Every use decodes anew, so that nothing is kept.
    """

    def __init__(self, data: bytes, decode: Callable[[Image.Image], Image.Image | np.ndarray], file: str):
        """Take the file's content and `decode(part of it) -> what it stands for`, an image or its pixels.

        Whatever goes wrong in decoding, now or later, is a ValueError that begins with `file`.
        """
        self.data, self.decode, self.file = data, decode, file
        with naming(file), Image.open(io.BytesIO(data)) as image:
            self.size = self.width, self.height = image.size

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image | np.ndarray:
        """Return the part (left, top, right, bottom), end exclusive, which lies inside."""
        with naming(self.file), Image.open(io.BytesIO(first_rows(self.data, box[3]))) as image:
            return self.decode(image.crop(box))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        with naming(self.file), Image.open(io.BytesIO(self.data)) as image:
            return np.array(self.decode(image), dtype, copy=copy)


def first_rows(data: bytes, rows: int) -> bytes:
    """Return a PNG whose header promises the first `rows` rows alone, so that decoding stops after them.

    What is no whole PNG, is interlaced (its rows are not in order) or has no more rows is returned as it is.
    """
    width, height, kind = struct.unpack_from(">II5s", data.ljust(29), len(PNG_HEADER))
    whole = data.startswith(PNG_HEADER) and data.endswith(PNG_END)
    if not whole or kind[-1] != 0 or rows >= height:
        return data
    header = struct.pack(">4sII5s", b"IHDR", width, rows, kind)
    return b"".join((data[:12], header, struct.pack(">I", zlib.crc32(header)), memoryview(data)[33:]))


@contextmanager
def naming(file: Path | str):
    """Turn whatever decoders raise on damaged files into a ValueError naming the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{file} cannot be read: it is no image of a known format, or damaged") from error
    except Exception as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
