"""Files of which a crop decodes no more rows than it needs."""

import io
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from datasets.lazy import PNG_HEADER, LazyImage, first_rows, read_content
from utils.errors import UserError


def content(values: np.ndarray, mode: str, kind: str = "PNG") -> bytes:
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def lazy(data: bytes) -> LazyImage:
    return LazyImage(data, lambda part: part, "image some.png")


def noise(shape, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.mark.parametrize(
    "values, mode", [(noise((9, 7, 3)), "RGB"), (noise((9, 7)), "L"), (noise((9, 7)), "P")]
)
@pytest.mark.parametrize("box", [(0, 0, 7, 9), (2, 3, 5, 4), (0, 8, 7, 9), (6, 0, 7, 1)])
def test_a_crop_is_that_of_the_whole_image(values, mode, box):
    image = lazy(content(values, mode))
    part = image.crop(box)
    left, top, right, bottom = box
    assert part.mode == mode and image.size == (7, 9)
    np.testing.assert_array_equal(np.asarray(part), values[top:bottom, left:right])


def test_16_bit_grey_keeps_its_bits():
    values = noise((9, 7), np.uint16)
    np.testing.assert_array_equal(np.asarray(lazy(content(values, "I;16")).crop((0, 2, 7, 4))), values[2:4])


def test_rows_below_are_not_decoded():
    """Half of 64 noisy rows is gone: the first 16 come out, the last do not."""
    values = noise((64, 64, 3))
    data = content(values, "RGB")
    middle = len(data) // 2
    damaged = data[:middle] + bytes(len(data) - middle - 16) + data[-16:]
    image = lazy(damaged)
    np.testing.assert_array_equal(np.asarray(image.crop((0, 0, 64, 16))), values[:16])
    with pytest.raises(UserError, match="image some.png cannot be read"):
        image.crop((0, 48, 64, 64))


def test_a_cut_file_is_found_whatever_is_cropped():
    data = content(noise((64, 64, 3)), "RGB")
    with pytest.raises(UserError, match="image some.png cannot be read"):
        lazy(data[: len(data) // 2]).crop((0, 0, 64, 16))


def test_what_cannot_be_cut_short_is_left_alone():
    """JPEG, PNG rows out of order (interlacing), all rows wanted, nothing at all."""
    png = content(noise((9, 7, 3)), "RGB")
    interlaced = bytearray(png)
    interlaced[len(PNG_HEADER) + 12] = 1
    assert first_rows(bytes(interlaced), 3) == interlaced
    jpeg = content(noise((9, 7, 3)), "RGB", "JPEG")
    assert first_rows(jpeg, 3) == jpeg
    assert first_rows(png, 9) == png and first_rows(b"", 3) == b""
    assert lazy(jpeg).crop((0, 0, 7, 3)).size == (7, 3)


def test_no_image():
    with pytest.raises(UserError, match="image some.png cannot be read"):
        lazy(b"no image")


def test_an_array_of_it_can_be_written_to():
    values = noise((9, 7))
    image = LazyImage(content(values, "L"), np.asarray, "label some.png")
    array = np.array(image)
    array += 1
    np.testing.assert_array_equal(array, values + 1)
    np.testing.assert_array_equal(np.asarray(image), values)
    assert np.array(image, np.int64).dtype == np.int64 and image.crop((1, 2, 3, 5)).shape == (3, 2)


@pytest.mark.parametrize("turned", range(1, 9))
def test_a_crop_of_a_turned_image_is_that_of_what_a_viewer_shows(turned):
    """Pillow's own turning is the reference."""
    values, exif, file = noise((9, 7, 3)), Image.Exif(), io.BytesIO()
    exif[0x0112] = turned
    Image.fromarray(values).save(file, "PNG", exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))))
    image = lazy(file.getvalue())
    assert image.size == shown.shape[1::-1] and image.orientation == turned
    np.testing.assert_array_equal(np.asarray(image), shown)
    np.testing.assert_array_equal(np.asarray(image.crop((1, 2, 6, 5))), shown[2:5, 1:6])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_never_ends_is_not_read(make, tmp_path):
    """A pipe that nobody writes to, and a device: they take the place of an image during a run."""
    make(tmp_path / "image.png")
    with pytest.raises(UserError, match="image 1 cannot be read: it is a pipe or a device"):
        read_content(tmp_path / "image.png", "image 1")
