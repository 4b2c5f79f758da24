"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016)."""

import struct
import zlib
from pathlib import Path

import numpy as np

from datasets.base import Layout, SegmentationDataset
from datasets.labels import SYNTHIA_TO_TRAIN_ID

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class SYNTHIA(SegmentationDataset):
    """SYNTHIA, whose labels are PNGs of three 16-bit channels: class, instance, unused.

    A flat download is split by split_data/.
    """

    name = "synthia"
    splits = ("train", "val")
    layouts = (Layout("RGB/{split}", "GT/LABELS/{split}"), Layout("RGB", "GT/LABELS", flat=True))
    table = SYNTHIA_TO_TRAIN_ID

    def label_content(self, path: Path) -> bytes:
        return first_channel(path.read_bytes())


def first_channel(png: bytes) -> bytes:
    """Return the 16-bit RGB PNG `png` with its first channel alone, as 16-bit grey PNG.

    Pillow keeps one byte of 16-bit colour, but both of 16-bit grey. PNG's filters relate a byte to the same
    byte of neighbouring pixels, so channels can be taken out of the filtered rows. Raises ValueError for
    other PNGs.
    """
    chunks = list(_chunks(png))
    if png[:8] != SIGNATURE or not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("it is not a PNG file")
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if (bits, kind, interlaced) != (16, 2, 0):
        raise ValueError(
            "a SYNTHIA label is a plain RGB PNG (colour type 2) of 16 bits, this one has "
            f"colour type {kind}, {bits} bits and interlacing {interlaced}"
        )
    rows = zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT"))
    rows = np.frombuffer(rows, np.uint8).reshape(height, 1 + 6 * width)  # a byte for the filter, 2 per value
    values = rows[:, 1:].reshape(height, width, 6)[:, :, :2].reshape(height, 2 * width)
    data = zlib.compress(np.hstack([rows[:, :1], values]).tobytes(), 0)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunks(png: bytes):
    position = len(SIGNATURE)
    while position + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        yield name, png[position + 8 : position + 8 + length]
        position += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
