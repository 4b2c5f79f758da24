"""Image files that are decoded where they are used, and only as many rows as a crop needs."""

import io
import os
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.images import damage_names, orientation, upright, user_errors_name
from utils.versions import Version

PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"  # then width, height, 5 bytes (the last: interlacing)
PNG_END = b"IEND\xaeB`\x82"
Decoder = Callable[[Image.Image], Image.Image | np.ndarray]
Check = Callable[[Image.Image, bytes], None]


def no_check(image: Image.Image, data: bytes) -> None:
    """Accept every image."""


class LazyImage:
    """A file's content that stands in for a PIL image, to be cropped or turned into an array.

    `decode` turns the cropped image into what the file stands for. `size` is (width, height) px. Every use
    decodes again; nothing is kept. An image with an EXIF orientation is turned as viewers show it; all of it
    is decoded for every crop.

    Raises UserError that begins with `file` for damaged content, now or where it is decoded, and for every
    UserError of `decode` and of `check`, which gets the opened image and the bytes now. All other errors of
    `decode` are errors of the program and keep their traceback.
    """

    def __init__(self, data: bytes, decode: Decoder, file: str, check: Check = no_check):
        self.data, self.decode, self.file = data, decode, file
        with damage_names(file), Image.open(io.BytesIO(data)) as image:
            with user_errors_name(file):
                check(image, data)
            self.orientation = orientation(image, data)
            if self.orientation != 1:
                image = upright(image)
            self.size = self.width, self.height = image.size

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image | np.ndarray:
        """Return the part (left, top, right, bottom), end exclusive, which lies inside the image."""
        turned = self.orientation != 1
        data = self.data if turned else first_rows(self.data, box[3])
        with damage_names(self.file), Image.open(io.BytesIO(data)) as image:
            part = (upright(image) if turned else image).crop(box)
        return self._decoded(part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        with damage_names(self.file), Image.open(io.BytesIO(self.data)) as image:
            image = upright(image) if self.orientation != 1 else image
            image.load()
        return np.array(self._decoded(image), dtype, copy=copy)

    def _decoded(self, image: Image.Image) -> Image.Image | np.ndarray:
        with user_errors_name(self.file):
            return self.decode(image)


def first_rows(data: bytes, rows: int) -> bytes:
    """Return a PNG with a header that promises only the first `rows` rows, so that decoding stops there.

    Other files, cut or interlaced PNGs (their rows are not in order) and PNGs without more rows are returned
    unchanged.
    """
    width, height, kind = struct.unpack_from(">II5s", data.ljust(29), len(PNG_HEADER))
    whole = data.startswith(PNG_HEADER) and data.endswith(PNG_END)
    if not whole or kind[-1] != 0 or rows >= height:
        return data
    header = struct.pack(">4sII5s", b"IHDR", width, rows, kind)
    return b"".join((data[:12], header, struct.pack(">I", zlib.crc32(header)), memoryview(data)[33:]))


def read_content(path: Path, file: str, listed: Version | None = None) -> bytes:
    """Return a file's bytes; UserError if its version is not the one `listed`. Errors begin with `file`."""
    with damage_names(file), open(path, "rb", opener=_without_waiting) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError("it is a pipe or a device")
        content, state = opened.read(), os.fstat(opened.fileno())
    if listed:
        listed.check(Version.of(state), file)
    return content


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe is opened, too, if nobody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)
