"""Orientation, modes and values of image files. Expected values by hand."""

import errno
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.helpers import png_of
from utils.errors import MissingFile, UserError
from utils.images import check_label, damage_names, label_values, orientation, palette_values, to_rgb, upright

# What a viewer shows of the rows [[1, 2, 3], [4, 5, 6]] with each orientation (EXIF 2.3, 4.6.4 A).
SHOWN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def tagged(turned, kind="PNG", values=SHOWN[1]):
    """Return an image file of `kind` with an EXIF orientation."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = turned
    Image.fromarray(np.array(values, np.uint8)).save(file, kind, exif=exif, lossless=True)
    return file.getvalue()


def late(png):
    """Return the PNG with its eXIf chunk after the pixels."""
    start = png.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(png[start : start + 4], "big")
    return png[:start] + png[end:-12] + png[start:end] + png[-12:]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "PNG, late"])
@pytest.mark.parametrize("turned", SHOWN)
def test_upright(turned, kind):
    data = tagged(turned, kind.partition(",")[0])
    data = late(data) if "late" in kind else data
    image = Image.open(io.BytesIO(data))
    assert orientation(image, data) == turned
    shown = upright(Image.open(io.BytesIO(data)))
    assert np.asarray(shown.convert("L")).tolist() == SHOWN[turned]


def test_orientation_of_a_jpeg():
    image = Image.open(io.BytesIO(tagged(6, "JPEG", np.zeros((8, 16)))))
    assert orientation(image) == 6 and upright(image).size == (8, 16)
    assert orientation(upright(image)) == 1


@pytest.mark.parametrize("turned", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_none(turned):
    image = Image.open(io.BytesIO(tagged(turned)))
    assert orientation(image) == 1 and np.asarray(upright(image)).tolist() == SHOWN[1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_exif_is_none(kind):
    file = io.BytesIO()
    Image.new("L", (16, 8)).save(file, kind, exif=b"Exif\0\0no TIFF header")
    data = file.getvalue()
    image = Image.open(io.BytesIO(data))
    assert orientation(image, data) == 1 and upright(image).size == (16, 8)


def test_a_png_without_orientation_is_not_decoded():
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Software", "some")
    Image.new("L", (4, 4)).save(file, "PNG", pnginfo=info)
    image = Image.open(io.BytesIO(file.getvalue()))
    assert orientation(image, file.getvalue()) == 1
    assert vars(image).get("_im", vars(image).get("im")) is None  # Pillow's pixels, once they are decoded


def test_more_than_8_bits_are_not_cut():
    for mode in ("I;16", "I", "F"):
        with pytest.raises(UserError, match="8 bits per channel"):
            to_rgb(Image.new(mode, (1, 1)))
    assert to_rgb(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(Image.new("CMYK", (1, 1))).getpixel((0, 0)) == (255, 255, 255)


def of(mode, *pixels):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


@pytest.mark.parametrize(
    "image",
    [
        of("L", 0, 7, 255),
        of("LA", (0, 255), (7, 255), (255, 255)),
        of("RGB", *[(v,) * 3 for v in (0, 7, 255)]),
        of("RGBA", *[(v, v, v, 255) for v in (0, 7, 255)]),
        of("I;16", 0, 7, 255),
        of("I", 0, 7, 255),
    ],
    ids=lambda image: image.mode,
)
def test_grey_labels_of_every_mode(image):
    assert np.asarray(label_values(image)).tolist() == [[0, 7, 255]]


def test_labels_of_one_bit():
    assert np.asarray(label_values(of("1", 0, 255))).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    "image, message",
    [
        (of("RGB", (1, 1, 2)), "in colour"),
        (of("RGBA", (1, 1, 1, 254)), "transparent"),
        (of("LA", (1, 0)), "transparent"),
        (of("F", 1.0), "F image"),
        (of("CMYK", (0, 0, 0, 0)), "CMYK image"),
        (of("YCbCr", (0, 128, 128)), "YCbCr image"),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_labels_without_values(image, message):
    with pytest.raises(UserError, match=message):
        label_values(image)


# Bits and colour type of a PNG -> bytes of a row of two pixels, the first of which is that of the tRNS chunk.
CLEAR = {
    (1, 0): (b"\x80", b"\0\1", 255),
    (8, 0): (b"\7\0", b"\0\7", 7),
    (16, 0): (b"\1\7\0\0", b"\1\7", 263),
    (8, 2): (b"\7\7\7\0\0\0", b"\0\7\0\7\0\7", 7),
}


def with_clear(bits, kind, row, clear):
    """Return a PNG of 2x1 px with a tRNS chunk."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" + row)
    return io.BytesIO(png_of(header, b"tRNS" + clear, data, b"IEND"))


@pytest.mark.parametrize("kind", CLEAR)
def test_a_transparent_value(kind):
    row, clear, value = CLEAR[kind]
    file = with_clear(*kind, row, clear)
    checked(file)
    with pytest.raises(UserError, match=f"value {value} are transparent"):
        label_values(Image.open(file))
    half = len(row) // 2
    opaque = with_clear(*kind, row[half:] * 2 if half else b"\0", clear)
    checked(opaque)
    assert np.asarray(label_values(Image.open(opaque))).tolist() == [[0, 0]]


@pytest.mark.parametrize("kind, row", [((8, 4), b"\7\xff" * 2), ((8, 6), b"\7\7\7\xff" * 2)])
def test_a_transparent_value_beside_an_alpha_channel_means_nothing(kind, row):
    file = with_clear(*kind, row, b"\0\7\0\7\0\7"[: 2 if kind[1] == 4 else 6])
    checked(file)
    assert np.asarray(label_values(Image.open(file))).tolist() == [[7, 7]]


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_value_of_few_bits(bits):
    with pytest.raises(UserError, match=f"{bits} bits and a transparent value"):
        checked(with_clear(bits, 0, b"\x40", b"\0\1"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_labels_of_several_frames(kind):
    file = io.BytesIO()
    more = {"append_images": [Image.new("L", (4, 4), 9)], "save_all": True}
    Image.new("L", (4, 4)).save(file, kind, **more | ({"lossless": True} if kind == "WEBP" else {}))
    with pytest.raises(UserError, match="it has 2 frames, of which a label has one"):
        checked(file)


def test_values_of_a_palette():
    image = of("P", 0)
    image.putpalette([9, 9, 9, 0, 0, 0, 1, 2, 3, 5, 5, 5])
    assert palette_values(image)[:6].tolist() == [9, 0, -1, 5, -2, -2]
    image.info["transparency"] = 1
    assert palette_values(image)[:5].tolist() == [9, -3, -1, 5, -2]
    image.info["transparency"] = b"\xff\xff\xff\x00"
    assert palette_values(image)[:5].tolist() == [9, 0, -1, -3, -2]


def test_what_the_system_lacks_is_no_damage():
    for number, kind in ((errno.EMFILE, OSError), (errno.EIO, UserError), (errno.ENOENT, MissingFile)):
        with pytest.raises(kind) as error, damage_names("image x.png"):
            raise OSError(number, "what is wrong")
        assert isinstance(error.value, UserError) == (kind is not OSError)


def checked(file):
    file.seek(0)
    check_label(Image.open(file), file.getvalue())


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("JPEG", {}, "JPEG"),
        ("WEBP", {}, "WEBP"),
        ("WEBP", {"lossless": True}, ""),
        ("PNG", {}, ""),
        ("BMP", {}, ""),
        ("TIFF", {"compression": "tiff_lzw"}, ""),
        ("TIFF", {"compression": "jpeg"}, "TIFF"),
        ("JPEG2000", {}, "JPEG2000"),
    ],
)
def test_lossy_labels(kind, options, message):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind, **options)
    if not message:
        return checked(file)
    with pytest.raises(UserError, match=f"{message} .*PNG"):
        checked(file)


def test_labels_have_no_orientation():
    checked(io.BytesIO(tagged(1)))
    with pytest.raises(UserError, match="orientation 3"):
        checked(io.BytesIO(tagged(3)))
