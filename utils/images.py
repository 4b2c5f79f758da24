"""What image files hold besides their pixels: damage, orientation, modes, and the values of labels."""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import NOTHING_LEFT, MissingFile, UserError, naming

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF tag: 1 is upright, 2 to 8 are turned or mirrored, 5 to 8 swap width and height
# What Pillow and the libraries below it raise for damaged files.
DAMAGE = (
    OSError,
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    ArithmeticError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
COLOURED, ABSENT, CLEAR = -1, -2, -3  # palette entries that have no value
LOSSLESS = (
    "PNG",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "TIFF",
    "WEBP",
)  # formats of labels; TIFF and WEBP may be lossy


@contextmanager
def damage_names(file: str) -> Iterator[None]:
    """Turn what reading a missing or damaged file raises into a UserError that begins with `file`.

    Only reading and Pillow's own decoding belong inside. What the system lacks is not damage and stays.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFile(f"{file} is not there") from error
    except UnidentifiedImageError as error:
        text = "it is damaged or not an image of a known format"
        raise UserError(f"{file} cannot be read: {text}") from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in NOTHING_LEFT:
            raise
        raise UserError(f"{file} cannot be read: {error}") from error


def user_errors_name(file: str) -> AbstractContextManager[None]:
    """Let every UserError begin with `file`."""
    return naming(f"{file} cannot be read")


def orientation(image: Image.Image, data: bytes = b"") -> int:
    """Return the EXIF orientation, 1 to 8, of an opened image; 1 where there is none that can be read.

    A PNG with metadata after its pixels, which shows only in `data`, its bytes, is decoded for it. No other
    image is decoded.
    """
    if data.startswith(PNG_SIGNATURE):
        if metadata_after_pixels(data):
            image.load()
        if not {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"} & image.info.keys():
            return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DAMAGE:  # viewers show the image all the same
        return 1
    return value if value in range(1, 9) else 1


def metadata_after_pixels(png: bytes) -> bool:
    """Return whether a PNG has chunks after its pixels that may hold an orientation."""
    position, pixels = len(PNG_SIGNATURE), False
    while position + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, position)
        pixels |= name == b"IDAT"
        if pixels and name in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
            return True
        position += length + 12
    return False


def upright(image: Image.Image) -> Image.Image:
    """Return the image as a viewer shows it, turned by its EXIF orientation."""
    turned = orientation(image)
    image.load()  # Pillow itself turns TIFF files here
    if turned == 1 or image.getexif().get(ORIENTATION) != turned:
        return image
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB; UserError where that would lose bits."""
    if image.mode[0] in "IF":
        raise UserError(f"an image has 8 bits per channel, this one is a {image.mode} image")
    return image if image.mode == "RGB" else image.convert("RGB")


def check_label(image: Image.Image, data: bytes) -> None:
    """Raise UserError for an opened label file, whose bytes are `data`, that cannot hold exact values.

    These are lossy files, files with an orientation or several frames, 16-bit colour, of which Pillow keeps
    one byte, and a transparent value of 2 or 4 bits, which Pillow does not scale as it does the pixels.
    """
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"it has {frames} frames, of which a label has one; save that one as PNG")
    lossy = image.format not in LOSSLESS
    lossy |= image.format == "WEBP" and data[12:16] != b"VP8L"
    lossy |= image.format == "TIFF" and image.info.get("compression") in ("jpeg", "webp", "tiff_jpeg")
    if lossy:
        raise UserError(f"a {image.format} file changes the values of a label; save labels as PNG")
    if (turned := orientation(image, data)) != 1:
        raise UserError(
            f"it has EXIF orientation {turned}, which a label may not have; turn its pixels to match the "
            "image and remove the tag"
        )
    if image.format == "PNG" and image.mode == "L" and data[24] in (2, 4) and "transparency" in image.info:
        raise UserError(f"it has {data[24]} bits and a transparent value; save it without transparency")
    bits = data[24:25] == b"\x10" and data[25:26] != b"\x00" if image.format == "PNG" else False
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA", "LA"):
        bits = max(image.tag_v2.get(258, (8,))) > 8  # type: ignore[attr-defined]
    if bits:
        raise UserError("a label is 8-bit, or one channel of 16 bits, this one is 16-bit colour")


def label_values(image: Image.Image) -> Image.Image:
    """Return an opened label, or a crop of it, with one channel of values: an L, P or I image.

    The value is what a viewer shows: 0 or 255 of 1-bit images, the grey level of grey pixels in colour.
    Palette images are returned as they are, see `palette_values`. Raises UserError for coloured pixels,
    transparent ones and other modes.
    """
    if image.mode == "1":
        clear = image.info.get("transparency")
        image = image.convert("L")
        image.info = {} if clear is None else {"transparency": 255 * bool(clear)}
    if image.mode == "RGBX":
        image = image.convert("RGB")
    if image.mode in ("LA", "RGBA", "PA"):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:  # type: ignore[comparison-overlap]
            raise UserError("it has transparent pixels, which have no value; save it without transparency")
        image = image.convert("RGB")
    if image.mode == "RGB":
        red, green, blue = (np.asarray(image.getchannel(band)) for band in "RGB")
        if ((red != green) | (green != blue)).any():
            raise UserError(
                "a label has one channel of class ids or is grey, this one is an RGB image in colour"
            )
        clear = image.info.get("transparency")
        image = image.getchannel("R")
        image.info = {"transparency": clear[0]} if clear and len(set(clear)) == 1 else {}
    if image.mode[0] in "LI" and (clear := image.info.get("transparency")) is not None:
        if (np.asarray(image) == clear).any():
            raise UserError(f"its pixels of value {clear} are transparent; save it without transparency")
    if image.mode not in ("L", "P") and image.mode[0] != "I":
        raise UserError(f"a label has one channel of class ids, this one is a {image.mode} image")
    return image


def palette(image: Image.Image) -> np.ndarray:
    """Return the colours of a palette image, uint8 (entries, 3)."""
    return np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)


def palette_values(image: Image.Image) -> np.ndarray:
    """Return what each of the 256 indices of a palette image stands for, int16 (256,).

    That is the grey level of a grey entry, else COLOURED, ABSENT (not in the palette) or CLEAR (transparent).
    """
    colors = palette(image).astype(np.int16)
    values = np.full(256, ABSENT, np.int16)
    grey = (colors == colors[:, :1]).all(1)
    values[: len(colors)] = np.where(grey, colors[:, 0], COLOURED)
    clear = image.info.get("transparency")
    if isinstance(clear, bytes):
        alpha = np.frombuffer(clear[:256], np.uint8)
        values[: len(alpha)][alpha != 255] = CLEAR
    elif clear is not None:
        values[clear] = CLEAR
    return values


def is_whole_picture(path: Path) -> bool:
    """Whether a PNG or JPEG file that Pillow wrote is there with its end: it may have been cut off."""
    end = b"IEND\xaeB`\x82" if path.suffix == ".png" else b"\xff\xd9"
    try:
        with path.open("rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:  # also of a file that is shorter
        return False
