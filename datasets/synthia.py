"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016)."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from datasets.base import Layout, SegmentationDataset
from datasets.labels import lookup_table
from utils.errors import UserError

# fmt: off
TABLE = lookup_table({
    0: 255, 1: 10, 2: 2, 3: 0, 4: 1, 5: 4, 6: 8, 7: 5, 8: 13, 9: 7, 10: 11, 11: 18, 12: 17,
    13: 255, 14: 255, 15: 6, 16: 9, 17: 12, 18: 14, 19: 15, 20: 16, 21: 3, 22: 255,
})
# fmt: on
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class SYNTHIA(SegmentationDataset):
    """SYNTHIA, whose labels are PNGs of three 16-bit channels: class, instance, unused.

    A flat download is split by split_data/.
    """

    name = "synthia"
    root_variable = "SYNTHIA_DIR"
    splits = ("train", "val")
    lists = ("da_sac",)
    layouts = (Layout("RGB/{split}", "GT/LABELS/{split}"), Layout("RGB", "GT/LABELS", flat=True))
    table = TABLE
    subsets = {"mean_iu_16": tuple(k for k in range(19) if k not in (9, 14, 16))}  # no terrain, truck, train
    published = {"train": 6580, "val": 2820}
    download = ((r"(RGB|GT/LABELS)/(?P<number>\d+)\.png", r"\1/{split}/\g<number>.png"),)

    def label_content(self, content: bytes) -> bytes:
        return first_channel(content)


def first_channel(png: bytes) -> bytes:
    """Return the first channel of the 16-bit RGB PNG `png` as a 16-bit grey PNG.

    Pillow keeps one byte of 16-bit colour, but both of 16-bit grey. PNG's filters relate a byte to the same
    byte of neighbouring pixels, so a channel can be cut out of the filtered rows. Raises UserError for other
    PNGs and damaged ones.
    """
    chunks = list(_chunks(png))
    if png[:8] != SIGNATURE or not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UserError("it is not a PNG file")
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if (bits, kind, interlaced) != (16, 2, 0):
        raise UserError(
            "a SYNTHIA label is a plain RGB PNG (colour type 2) of 16 bits, this one has "
            f"colour type {kind}, {bits} bits and interlacing {interlaced}"
        )
    if any(name == b"tRNS" for name, _ in chunks):
        raise UserError("it has a transparent colour, which may hide classes; save it without transparency")
    try:
        content = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    except zlib.error as error:
        raise UserError(str(error)) from error
    if len(content) != height * (1 + 6 * width):  # per row a byte for the filter, per value 2 bytes
        raise UserError(f"it has {len(content)} bytes of pixels, which are not {width}x{height} px")
    rows = np.frombuffer(content, np.uint8).reshape(height, 1 + 6 * width)
    values = rows[:, 1:].reshape(height, width, 6)[:, :, :2].reshape(height, 2 * width)
    data = zlib.compress(np.hstack([rows[:, :1], values]).tobytes(), 0)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(SIGNATURE)
    while position + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        yield name, png[position + 8 : position + 8 + length]
        position += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
