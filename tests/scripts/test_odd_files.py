"""`prepare_data check` over more than 90 odd files: the verdict on each, and the pixels counted."""

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datasets import DATASETS
from datasets.toy_city import write_png16
from scripts import prepare_data, problems
from tests.helpers import no_transform, png_of
from utils.files import printable

SIZE = WIDTH, HEIGHT = 6, 4  # px
ROAD, SKY = 3, 0  # values of CamVid's labels
FINE = ""


def picture(mode="RGB", size=SIZE, value=None):
    return Image.new(mode, size, 0 if value is None else value)


def road(mode="L", size=SIZE):
    return Image.new("L", size, ROAD).convert(mode)


def noise():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


def gamma():
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 45455))
    chunks.add(b"sRGB", b"\0")
    return chunks


def interlaced():
    """Return an Adam7 PNG of SIZE, all black: each pass has rows of its own, all of zeros."""
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = [bytes(1 + 3 * len(range(x, WIDTH, dx))) for x, y, dx, dy in passes for _ in range(y, HEIGHT, dy)]
    rows = [row for row in rows if len(row) > 1]
    header = b"IHDR" + struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    return png_of(header, b"IDAT" + zlib.compress(b"".join(rows)), b"IEND")


def of_palette(colors, index, **info):
    image = Image.new("P", SIZE, index)
    image.putpalette([value for color in colors for value in color])
    image.info |= info
    return image


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path):
    """Write the header of a PNG of 40000x40000 px, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)
    path.write_bytes(png_of(header, b"IDAT" + zlib.compress(b""), b"IEND"))


# Name of the image file -> (how it is written, what check says of it). Labels are all road.
IMAGES = {
    "01_grey.png": (lambda p: picture("L").save(p), FINE),
    "02_grey_with_alpha.png": (lambda p: picture("LA").save(p), FINE),
    "03_palette.png": (lambda p: picture("P").save(p), FINE),
    "04_clear_palette.png": (lambda p: of_palette([(1, 2, 3)], 0).save(p, transparency=0), FINE),
    "05_with_alpha.png": (lambda p: picture("RGBA", value=(1, 2, 3, 0)).save(p), FINE),
    "06_one_bit.png": (lambda p: picture("1").save(p), FINE),
    "07_cmyk.jpg": (lambda p: picture("CMYK", value=(0, 0, 0, 0)).save(p), FINE),
    "08_grey_16.png": (lambda p: picture("I;16").save(p), "8 bits per channel"),
    "09_float.tif": (lambda p: picture("F").save(p), "8 bits per channel"),
    "10_colour_16.png": (lambda p: write_png16(p, np.zeros((HEIGHT, WIDTH, 3))), FINE),
    "11_upper.JPG": (lambda p: picture().save(p), FINE),
    "12_long.jpeg": (lambda p: picture().save(p), FINE),
    "13_mixed.Png": (lambda p: picture().save(p, "PNG"), FINE),
    "14_tiff.tif": (lambda p: picture().save(p), FINE),
    "15_windows.bmp": (lambda p: picture().save(p), FINE),
    "16_web.webp": (lambda p: picture().save(p), FINE),
    "17_gif.gif": (lambda p: picture().save(p), FINE),
    "18_upright.jpg": (lambda p: picture().save(p, exif=turned(1)), FINE),
    "19_turned.jpg": (lambda p: picture().save(p, exif=turned(3)), "EXIF orientation 3"),
    "20_on_its_side.jpg": (lambda p: picture().save(p, exif=turned(6)), "EXIF orientation 6"),
    "21_turned.png": (lambda p: picture().save(p, exif=turned(2)), "EXIF orientation 2"),
    "22_turned.tif": (lambda p: picture().save(p, exif=turned(8)), "EXIF orientation 8"),
    "23_bad_exif.jpg": (lambda p: picture().save(p, exif=b"Exif\0\0none"), FINE),
    "24_jpeg_called.png": (lambda p: picture().save(p, "JPEG"), FINE),
    "25_cut.png": (lambda p: (picture().save(p), half(p)), "cannot be read"),
    "26_empty.png": (lambda p: p.touch(), "cannot be read"),
    "27_page.jpg": (lambda p: p.write_text("<html>not found</html>"), "cannot be read"),
    "28_bomb.png": (bomb, "cannot be read"),
    "29_link_to_nothing.png": (lambda p: p.symlink_to("nowhere"), "is not there"),
    "30_link.png": (
        lambda p: (p.symlink_to("../linked.png"), picture().save(p.parents[1] / "linked.png")),
        FINE,
    ),
    "31_larger.png": (lambda p: picture(size=(7, 4)).save(p), "differ in size: .* is 7x4, .* is 6x4"),
    "32_heic.heic": (lambda p: p.touch(), "convert them to PNG"),
    "33_line\nbreak.png": (lambda p: picture().save(p), FINE),
    os.fsdecode(b"34_M\xfcnchen.png"): (lambda p: picture().save(p), FINE),
    f"35_{'n' * 245}.png": (lambda p: picture().save(p), FINE),
    "36_<img src=x onerror=alert(1)>.png": (lambda p: picture().save(p), FINE),
    '37_=HYPERLINK("a", "b").png': (lambda p: picture().save(p), FINE),
    "38_ it's  $HOME.png": (lambda p: picture().save(p), FINE),
    "39_\u202egnp.png": (lambda p: picture().save(p), FINE),
    "40_folder.png/image.png": (lambda p: picture().save(p), FINE),
    "41_no_label.png": (lambda p: picture().save(p), "image without its label"),
    "42_progressive.jpg": (lambda p: picture().save(p, progressive=True), FINE),
    "43_cut_progressive.jpg": (lambda p: (noise().save(p, progressive=True), half(p)), "truncated"),
    "44_animated.gif": (lambda p: picture("P").save(p, save_all=True, append_images=[road("P")]), FINE),
    "45_animated.png": (lambda p: picture().save(p, save_all=True, append_images=[road("RGB")]), FINE),
    "46_animated.webp": (lambda p: picture().save(p, save_all=True, append_images=[road("RGB")]), FINE),
    "47_pages.tif": (lambda p: picture().save(p, save_all=True, append_images=[road("RGB")]), FINE),
    "48_huge_exif.jpg": (lambda p: picture().save(p, exif=b"Exif\0\0MM\0*" + bytes(60000)), FINE),
    "49_gamma.png": (lambda p: picture().save(p, pnginfo=gamma()), FINE),
    "a0_\U0001f697 100%.png": (lambda p: picture().save(p), FINE),
    "a1_ends in a space .png": (lambda p: picture().save(p), FINE),
    "a2_same.png": (lambda p: picture().save(p), FINE),
    "a2_SAME.PNG": (lambda p: picture().save(p), FINE),
    "a3_%s%d{0}.png": (lambda p: picture().save(p), FINE),
    "a4_lab.tif": (lambda p: picture("LAB").save(p), FINE),
    "a5_ycbcr.jpg": (lambda p: picture("YCbCr").save(p), FINE),
    "a6_interlaced.png": (lambda p: p.write_bytes(interlaced()), FINE),
    "a7_text.svg.png": (lambda p: p.write_text("<svg/>"), "cannot be read"),
    "a8_link_to_itself.png": (lambda p: p.symlink_to(p.name), "cannot be read|is not there"),
}
# Name of the label file -> (how it is written, what check says of it). Images are all black.
LABELS = {
    "50_optimized.png": (lambda p: of_palette([(9, 9, 9), (ROAD,) * 3], 1).save(p), FINE),
    "51_grey_ramp.png": (lambda p: of_palette([(v,) * 3 for v in range(256)], ROAD).save(p), FINE),
    "52_colours.png": (lambda p: of_palette([(v, 0, 9) for v in range(12)], ROAD).save(p), "has a colour"),
    "53_unused_colour.png": (lambda p: of_palette([(1, 2, 3), (ROAD,) * 3], 1).save(p), FINE),
    "54_clear.png": (lambda p: of_palette([(ROAD,) * 3], 0).save(p, transparency=0), "is transparent"),
    "55_clear_unused.png": (lambda p: of_palette([(9, 9, 9), (ROAD,) * 3], 1).save(p, transparency=0), FINE),
    "56_one_bit.png": (lambda p: picture("1").save(p), FINE),  # sky
    "57_one_bit_white.png": (lambda p: picture("1", value=1).save(p), "class id 255"),
    "58_with_alpha.png": (lambda p: road("LA").save(p), FINE),
    "59_rgb.png": (lambda p: road("RGB").save(p), FINE),
    "60_rgba.png": (lambda p: road("RGBA").save(p), FINE),
    "61_rgba_clear.png": (lambda p: picture("RGBA", value=(3, 3, 3, 9)).save(p), "transparent pixels"),
    "62_rgb_colours.png": (lambda p: picture("RGB", value=(128, 64, 128)).save(p), "in colour"),
    "63_16_bits.png": (lambda p: picture("I;16", value=ROAD).save(p), FINE),
    "64_16_bits_high.png": (lambda p: picture("I;16", value=256 + ROAD).save(p), "class id 259"),
    "65_colour_16.png": (lambda p: write_png16(p, np.full((HEIGHT, WIDTH, 3), ROAD)), "16-bit colour"),
    "66_float.tif": (lambda p: picture("F", value=ROAD).save(p), "a F image"),
    "67_jpeg.png": (lambda p: road().save(p, "JPEG"), "JPEG file changes"),
    "68_lossy.webp": (lambda p: road("RGB").save(p), "WEBP file changes"),
    "69_lossless.webp": (lambda p: road("RGB").save(p, lossless=True), FINE),
    "70_turned.png": (lambda p: road().save(p, exif=turned(3)), "EXIF orientation 3"),
    "71_unknown.png": (lambda p: picture("L", value=77).save(p), "class id 77 is not one of camvid's: 0-11"),
    "72_cut.png": (lambda p: (road().save(p), half(p)), "cannot be read"),
    "73_upper.PNG": (lambda p: road().save(p), FINE),
    "74_tiff.tiff": (lambda p: road().save(p), FINE),
    "75_cmyk.tif": (lambda p: picture("CMYK").save(p), "a CMYK image"),
    "76_smaller.png": (lambda p: road(size=(5, 4)).save(p), "differ in size: .* is 6x4, .* is 5x4"),
    "77_no_image.png": (lambda p: road().save(p), "labels without their image"),
    "78_gamma.png": (lambda p: road().save(p, pnginfo=gamma()), FINE),
    "79_profile.png": (lambda p: road().save(p, icc_profile=b"profile"), FINE),
    "b0_clear_16.png": (lambda p: road("I;16").save(p, transparency=ROAD), "value 3 are transparent"),
    "b1_clear_16_unused.png": (lambda p: road("I;16").save(p, transparency=9), FINE),
    "b2_clear_bit.png": (lambda p: picture("1").save(p, transparency=0), "value 0 are transparent"),
    "b3_clear_rgb.png": (lambda p: road("RGB").save(p, transparency=(3, 3, 3)), "value 3 are transparent"),
    "b4_clear_rgb_unused.png": (lambda p: road("RGB").save(p, transparency=(9, 9, 9)), FINE),
    "b5_clear_grey.png": (lambda p: road().save(p, transparency=ROAD), "value 3 are transparent"),
    "b6_frames.png": (
        lambda p: road().save(p, save_all=True, append_images=[picture("L")]),
        "it has 2 frames",
    ),
    "b7_pages.tif": (
        lambda p: road().save(p, save_all=True, append_images=[picture("L")]),
        "it has 2 frames",
    ),
    "b8_32_bits.tif": (lambda p: road("I").save(p), FINE),
    "b9_negative.tif": (lambda p: picture("I", value=-1).save(p), "class id -1"),
}
# Files that are no data, with the words that check has for them.
NOTED = {".ipynb_checkpoints/80.png": "hidden", "._81.png": "hidden", "__MACOSX/82.png": "hidden"}
EXTRA_SIZES = {"90_one_pixel.png": (1, 1), "91_one_row.png": (5000, 1), "92_one_column.png": (1, 5000)}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A root DATA/camvid with all of them in train, and an ordinary pair in val."""
    root = tmp_path_factory.mktemp("data") / "camvid"

    def ready(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for name, (write, _) in IMAGES.items():
        write(ready(root / "train" / name))
        if "no_label" not in name and "heic" not in name:
            road().save(ready(root / "trainannot" / Path(name).with_suffix(".png")))
    for name, (write, _) in LABELS.items():
        write(ready(root / "trainannot" / name))
        if "no_image" not in name:
            picture().save(ready(root / "train" / Path(name).with_suffix(".png")))
    for name in NOTED:
        picture().save(ready(root / "train" / name))
    os.mkfifo(root / "train/83.png")
    (root / "train/84.png").symlink_to(".")
    for name, size in EXTRA_SIZES.items():
        picture(size=size).save(root / "train" / name)
        road(size=size).save(root / "trainannot" / name)
    picture().save(root / "train/93_twice.png")
    picture().save(root / "train/93_twice.jpg")
    road().save(root / "trainannot/93_twice.png")
    picture().save(ready(root / "val/a.png"))
    road().save(ready(root / "valannot/a.png"))
    return root


@pytest.fixture(scope="module")
def lines(odd):
    """What check prints, each problem on its line."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr(problems, "EACH", 1000)
        patch.setattr("builtins.print", lambda *texts: printed.extend(" ".join(map(str, texts)).split("\n")))
        assert not prepare_data.check_all(["camvid"], str(odd.parent), 2)
    return printed


EXPECTED = {name: text for name, (_, text) in (IMAGES | LABELS).items()}


def test_there_are_more_than_ninety():
    assert len(EXPECTED) + len(NOTED) + len(EXTRA_SIZES) > 90


@pytest.mark.parametrize("name", EXPECTED, ids=ascii)
def test_the_verdict_on_each(name, lines):
    about = [line for line in lines if f"/{name[:3]}" in line and "written as others" not in line]
    if not EXPECTED[name]:
        assert not about
        return
    (line,) = about
    assert re.search(EXPECTED[name], line) and printable(Path(name).stem) in line


@pytest.mark.parametrize("name", NOTED)
def test_what_is_no_data_is_noted(name, lines):
    (line,) = [line for line in lines if "left out of" in line]
    assert f"3 {NOTED[name]}" in line and "1 neither files nor folders (83.png)" in line
    assert "1 links to folders that are listed already (84.png)" in line


def test_every_problem_is_counted_once(lines):
    """Three are files that are left out: 32, 77 and 93. Labels have 24 px; 7 have values that are unknown."""
    faults = [text for text in EXPECTED.values() if text] + ["93_twice.jpg"]
    unknown = [text for text in faults if re.search("class id|has a colour|is transparent", text)]
    parts = f"{len(faults) - 3} images cannot be used, 3 files left out"
    assert f"camvid: NOT fine: {parts}, {len(unknown) * WIDTH * HEIGHT} pixels of unknown values" in lines
    assert len([line for line in lines if "93_twice" in line]) == 1


def test_the_pixels_of_what_is_fine(lines):
    """56 is sky, all others that can be read are road; 1 pixel, a row and a column of 5000, and 93."""
    fine = [name for name, text in EXPECTED.items() if not text]
    pixels = (len(fine) - 1 + 2) * WIDTH * HEIGHT + 1 + 2 * 5000  # 93 and val's a are two more
    shares = {line.split()[0]: line.split()[1] for line in lines if re.match(r"(road|sky|car) +\d", line)}
    assert shares == {"road": str(pixels), "sky": str(WIDTH * HEIGHT), "car": "0"}


def test_names_in_results_are_safe_and_different(odd):
    dataset = DATASETS["camvid"](odd, "train", no_transform, skip_unlabelled=True)
    names = [dataset.name_of(sample) for sample in dataset.samples]
    assert len(set(names)) == len(names)
    assert all(name.isprintable() or name.startswith("39") for name in names)
    for name in ("36_<img src=x onerror=alert(1)>", '37_=HYPERLINK("a", "b")', "38_ it's  $HOME"):
        assert name in names
