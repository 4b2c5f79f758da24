"""The values of label files as programs save and optimizers rewrite them."""

import numpy as np
import pytest
from PIL import Image

from datasets import DATASETS
from datasets.mapillary import COLORS
from datasets.toy_city import write_png16
from tests.helpers import no_transform, save, write_camvid
from utils.errors import UserError

LABEL = [[8, 3, 11], [0, 3, 10]]  # of CamVid: car, road, not labelled; sky, road, bicycle
TRAIN_IDS = [[13, 0, 255], [10, 0, 18]]


def palette_image(indices, colors, bits=8):
    image = Image.fromarray(np.array(indices, np.uint8))
    image.putpalette([value for color in colors for value in color])
    return image


def optimized(values):
    """Return grey values as a palette image of the same pixels, the way a lossless optimizer stores them.

    The most frequent value gets index 0.
    """
    found, counts = np.unique(values, return_counts=True)
    order = found[np.argsort(-counts, kind="stable")].tolist()
    return palette_image([[order.index(v) for v in row] for row in values], [(v, v, v) for v in order])


def grey(mode):
    return Image.fromarray(np.array(LABEL, np.uint8)).convert(mode)


def sixteen_bits():
    return Image.fromarray(np.array(LABEL, np.uint16))


SAME = {
    "palette of an optimizer": lambda: optimized(LABEL),
    "grey ramp with unused colours": lambda: palette_image(
        LABEL, [(v,) * 3 for v in range(12)] + [(1, 2, 3)]
    ),
    "L": lambda: grey("L"),
    "LA": lambda: grey("LA"),
    "RGB": lambda: grey("RGB"),
    "RGBA": lambda: grey("RGBA"),
    "16 bits": sixteen_bits,
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_pixels_are_the_same_classes(kind, tmp_path):
    root = write_camvid(tmp_path, [LABEL])
    SAME[kind]().save(root / "trainannot/000.png")
    dataset = DATASETS["camvid"](root, "train", no_transform)
    assert dataset[0]["label"].tolist() == TRAIN_IDS
    label = dataset.open_label(dataset.samples[0].label)
    assert np.asarray(label.crop((1, 0, 3, 1))).tolist() == [TRAIN_IDS[0][1:]]


def transparent(values):
    image = optimized(values)
    image.info["transparency"] = b"\x00"
    return image


OTHER = {
    "coloured palette": (
        palette_image(LABEL, [(v, v, 9) for v in range(12)]),
        "index 8 of its palette has a colour",
    ),
    "index out of the palette": (
        palette_image(LABEL, [(3, 3, 3)]),
        "index 1, which its palette does not have",
    ),
    "transparent palette": (transparent(LABEL), "index 0 of its palette is transparent"),
    "colours": (Image.new("RGB", (3, 2), (128, 64, 128)), "in colour"),
    "unknown grey of a palette": (optimized([[3, 77, 3]] * 2), "class id 77 is not one of camvid's: 0-11"),
    "unknown of 16 bits": (Image.fromarray(np.full((2, 3), 256 + 8, np.uint16)), "class id 264"),
    "white of 1 bit": (Image.new("1", (3, 2), 1), "class id 255"),
}


@pytest.mark.parametrize("kind", OTHER)
def test_labels_whose_meaning_is_not_clear(kind, tmp_path):
    image, message = OTHER[kind]
    root = write_camvid(tmp_path, [LABEL])
    image.save(root / "trainannot/000.png")
    with pytest.raises(UserError, match=f"trainannot/000.png .*{message}"):
        DATASETS["camvid"](root, "train", no_transform)[0]


def test_a_jpeg_is_no_label(tmp_path):
    root = write_camvid(tmp_path, [LABEL])
    grey("L").save(root / "trainannot/000.png", "JPEG")
    with pytest.raises(UserError, match="000.png .*JPEG"):
        DATASETS["camvid"](root, "train", no_transform)[0]


def test_16_bit_colour_is_not_cut_to_its_high_byte(tmp_path):
    root = write_camvid(tmp_path, [LABEL])
    write_png16(root / "trainannot/000.png", np.stack([np.array(LABEL)] * 3, -1))
    with pytest.raises(UserError, match="000.png .*16-bit colour"):
        DATASETS["camvid"](root, "train", no_transform)[0]


VISTAS = [tuple(bytes.fromhex(color)) for color in COLORS]


def vistas(tmp_path, image):
    save(tmp_path / "training/images/a.jpg", np.zeros((1, 4, 3)))
    (tmp_path / "training/labels").mkdir(parents=True)
    image.save(tmp_path / "training/labels/a.png")
    return DATASETS["mapillary"](tmp_path, "train", no_transform)[0]["label"].tolist()


ORDER = [55, 13, 30, 65]  # car, road, vegetation, unlabelled
BLACK = [(0, 0, 0)] * (256 - len(VISTAS))


@pytest.mark.parametrize(
    "image",
    [
        palette_image([ORDER], VISTAS),
        palette_image([ORDER], VISTAS + BLACK),
        palette_image([range(4)], [VISTAS[index] for index in ORDER]),
        palette_image([range(4)], [*(VISTAS[index] for index in ORDER), (1, 2, 3)]),
        palette_image([range(4)], [*(VISTAS[i] for i in [*ORDER, *({*range(66)} - {*ORDER})]), *BLACK]),
        palette_image([ORDER], [(index, 255 - index, 7) for index in range(256)]),
        Image.fromarray(np.array([ORDER], np.uint8)),
        optimized([ORDER]),
    ],
    ids=[
        *("Vistas'", "Vistas' and black", "sorted anew", "sorted anew and one more", "all sorted anew"),
        *("other colours", "grey", "grey, optimized"),
    ],
)
def test_vistas_palettes(image, tmp_path):
    assert len(set(VISTAS)) == 66
    assert vistas(tmp_path, image) == [[13, 0, 8, 255]]


def test_a_colour_that_is_not_vistas(tmp_path):
    with pytest.raises(UserError, match=r"a.png .*colour"):
        vistas(tmp_path, palette_image([[0, 1, 2, 4]], [*(VISTAS[index] for index in ORDER), (1, 2, 3)]))


def test_vistas_2_is_another_set_of_classes(tmp_path):
    """Version 2.0 has the values 0 to 123, in a palette of colours."""
    with pytest.raises(UserError, match=r"a.png .*class id 108 is not one of mapillary's: 0-65"):
        vistas(tmp_path, palette_image([[13, 108, 30, 65]], [(index, 7, 9) for index in range(124)]))


def test_a_transparent_colour_of_gtav(tmp_path):
    save(tmp_path / "images/train/00001.png", np.zeros((1, 2, 3)))
    path = tmp_path / "labels/train/00001.png"
    path.parent.mkdir(parents=True)
    image = palette_image([[0, 1]], [(128, 64, 128), (0, 0, 142)])
    image.save(path, transparency=b"\xff\xff")

    def item():
        return DATASETS["gtav"](tmp_path, "train", no_transform)[0]

    assert item()["label"].tolist() == [[0, 13]]
    image.save(path, transparency=b"\xff\x00")
    with pytest.raises(UserError, match="00001.png .*index 1 of its palette is transparent"):
        item()
    Image.new("RGB", (2, 1), (128, 64, 128)).save(path, transparency=(128, 64, 128))
    with pytest.raises(UserError, match=r"00001.png .*colour \[128, 64, 128\] are transparent"):
        item()
    Image.new("RGB", (2, 1), (128, 64, 128)).save(path, transparency=(1, 2, 3))
    assert item()["label"].tolist() == [[0, 0]]
    Image.new("RGBA", (2, 1), (128, 64, 128, 0)).save(path)
    with pytest.raises(UserError, match="00001.png .*transparent pixels"):
        item()


def test_a_grey_label_of_gtav(tmp_path):
    """Its values may be ids, train ids or what became of the colours, so none is guessed."""
    save(tmp_path / "images/train/00001.png", np.zeros((1, 2, 3)))
    save(tmp_path / "labels/train/00001.png", [[70, 0]])
    with pytest.raises(UserError, match="00001.png .*colours, this one is grey.*take the palette"):
        DATASETS["gtav"](tmp_path, "train", no_transform)[0]


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_labelled_image_with_an_orientation(kind, tmp_path):
    """Without its label, as a target image, it is read as viewers show it."""
    root = write_camvid(tmp_path, [[[8, 3, 11]]])
    path = root / ("train" if kind == "image" else "trainannot") / "000.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).save(path, exif=exif)
    dataset = DATASETS["camvid"](root, "train", no_transform)
    with pytest.raises(UserError, match=f"{path} .*EXIF orientation 3"):
        dataset[0]
    item = dataset.load(dataset.samples[0]._replace(label=None), np.random.default_rng(0))
    assert item["image"][0].tolist() == [[11, 3, 8] if kind == "image" else [8, 3, 11]]
