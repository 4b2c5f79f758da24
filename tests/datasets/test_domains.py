"""Every domain's layouts and label encodings, and what each says about bad input."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_data import SIZE, TRAIN, VAL, no_transform, save, write_camvid

from datasets import DATASETS, get_dataset_class
from datasets.base import as_ranges
from datasets.labels import CITYSCAPES, PALETTE
from datasets.synthia import SYNTHIA, first_channel
from datasets.toy_city import write_png16

TOWN = ("cityscapes", "gtav", "synthia", "bdd100k", "mapillary")


def camvid(root, label):
    """Write one CamVid training pair, 000.png, and return the dataset."""
    return DATASETS["camvid"](write_camvid(root, [label]), "train", no_transform)


@pytest.mark.parametrize("name", TOWN)
@pytest.mark.parametrize("split, count", [("train", TRAIN), ("val", VAL)])
def test_toy_town(toy, name, split, count):
    dataset = DATASETS[name](toy / name, split, no_transform)
    assert len(dataset) == count
    assert [s.image for s in dataset.samples] == sorted(s.image for s in dataset.samples)
    item = dataset[0]
    assert item["image"].shape == (3, *SIZE) and item["label"].shape == SIZE
    assert set(item["label"].unique().tolist()) <= {*range(19), 255}
    assert {0, 2, 10} <= set(item["label"].unique().tolist())  # road, building, sky
    assert not item["name"].endswith((".png", ".jpg", "_leftImg8bit"))


def test_cityscapes_plain_layout_trainval_and_cv(tmp_path):
    for split, cities in {"train": "cdef", "val": "ab"}.items():
        for city in cities:
            save(tmp_path / f"leftImg8bit/{split}/{city}/{city}_0_leftImg8bit.png", np.zeros((2, 2, 3)))
            save(tmp_path / f"gtFine/{split}/{city}/{city}_0_gtFine_labelIds.png", np.full((2, 2), 26))

    def names(split, **options):
        dataset = DATASETS["cityscapes"](tmp_path, split, no_transform, **options)
        return "".join(dataset[i]["name"][0] for i in range(len(dataset)))

    assert (names("train"), names("val"), names("trainval")) == ("cdef", "ab", "cdefab")
    # six cities a..f, two held out, from number 6 * cv / 3 on
    assert (names("train", cv=1), names("val", cv=1)) == ("abef", "cd")
    assert (names("train", cv=2), names("val", cv=2)) == ("abcd", "ef")
    with pytest.raises(ValueError, match=r"cv 3 .* 0\.\.2"):
        names("val", cv=3)


def test_newer_bdd_layout_and_unlabelled_test_split(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / f"images/10k/{split}/x.jpg", np.zeros((2, 3, 3)))
    save(tmp_path / "labels/sem_seg/masks/train/x.png", [[0, 13, 18], [255, 255, 255]])
    train = DATASETS["bdd100k"](tmp_path, "train", no_transform)
    assert train[0]["label"].tolist() == [[0, 13, 18], [255, 255, 255]]
    test = DATASETS["bdd100k"](tmp_path, "test", no_transform)
    assert test[0]["name"] == "x" and test[0]["label"].tolist() == [[255] * 3] * 2


def test_camvid_one_folder_down(tmp_path):
    write_camvid(tmp_path / "CamVid", [[[8, 11]]])
    assert DATASETS["camvid"](tmp_path, "train", no_transform)[0]["label"].tolist() == [[13, 255]]


@pytest.fixture
def gtav(tmp_path):
    save(tmp_path / "images/train/folder/00001.png", np.zeros((1, 2, 3)))
    save(tmp_path / "labels/train/folder/00001.png", np.zeros((1, 2)))
    return DATASETS["gtav"](tmp_path, "train", no_transform)


def palette_image(values, colors):
    image = Image.fromarray(np.array(values, np.uint8))
    image.putpalette([value for color in colors for value in color])
    return image


def test_gtav_follows_colours_not_indices(gtav):
    colors = [(0, 0, 142), (0, 0, 143), (153, 153, 153), (153, 153, 154)]  # car, plate, pole, polegroup
    label = palette_image([[0, 1, 2, 3]], colors)
    expected = [[13, 255, 5, 255]]
    assert gtav.decode_label(label).tolist() == expected
    assert gtav.decode_label(label.convert("RGB")).tolist() == expected
    assert gtav.decode_label(label.convert("RGBA")).tolist() == expected


def test_gtav_reads_every_colour_of_the_table(gtav):
    rows = [label for label in CITYSCAPES if label.name != "polegroup"]
    rgb = np.array([[row.color for row in rows]], np.uint8)
    assert gtav.decode_label(Image.fromarray(rgb)).tolist() == [[row.train_id for row in rows]]


def test_gtav_rejects_other_colours(gtav):
    with pytest.raises(ValueError, match=r"colour \[1, 2, 3\]"):
        gtav.decode_label(palette_image([[0]], [(1, 2, 3)]))
    with pytest.raises(ValueError, match=r"colour \[1, 2, 3\]"):
        gtav.decode_label(Image.new("RGB", (2, 2), (1, 2, 3)))
    with pytest.raises(ValueError, match="palette or RGB image, this one is L"):
        gtav[0]
    with pytest.raises(ValueError, match="index 7, which its palette does not have"):
        gtav.decode_label(palette_image([[7]], [(0, 0, 142)]))


def filtered_png16(array):
    """Encode (H, W, 3) 16-bit values as PNG with filters none, sub, up, average, Paeth by row in turn."""
    height, width, _ = array.shape
    raw = np.zeros((height + 1, width + 1, 6), int)  # bytes, with the zeros that the standard puts outside
    raw[1:, 1:] = array.astype(">u2").view(np.uint8).reshape(height, width, 6)
    here, left, up, corner = raw[1:, 1:], raw[1:, :-1], raw[:-1, 1:], raw[:-1, :-1]
    estimate = left + up - corner
    far = [abs(estimate - neighbour) for neighbour in (left, up, corner)]
    paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], up, corner))
    rows = b""
    for y in range(height):
        guess = (0 * here, left, up, (left + up) // 2, paeth)[y % 5][y]
        rows += bytes([y % 5]) + ((here[y] - guess) % 256).astype(np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = zlib.compress(rows)
    chunks = (b"IHDR", header), (b"IDAT", data[:50]), (b"IDAT", data[50:]), (b"IEND", b"")
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_synthia_reads_every_png_filter():
    values = np.random.default_rng(0).integers(0, 65536, (23, 31, 3), np.uint16)
    decoded = Image.open(io.BytesIO(first_channel(filtered_png16(values))))
    assert (np.asarray(decoded) == values[..., 0]).all()


def test_synthia_rejects_other_files(toy):
    path = toy / "synthia/GT/LABELS/train/0000000.png"
    with pytest.raises(ValueError, match="RGB PNG .* of 16 bits, this one has colour type 2, 8 bits"):
        first_channel((toy / "synthia/RGB/train/0000000.png").read_bytes())
    with pytest.raises(ValueError, match="not a PNG"):
        first_channel(path.read_bytes()[1:])
    with pytest.raises((ValueError, zlib.error)):
        first_channel(path.read_bytes()[:300])


def test_synthia_reads_both_bytes(tmp_path):
    """The second label holds classes raised by 256, which a reading of the low byte would not see."""
    label = np.array([[8, 3, 22], [0, 1, 21]])
    label = np.stack([label, 1000 + label, 65535 + 0 * label], -1)  # class, instance, unused
    path = tmp_path / "GT/LABELS/train/0000000.png"
    path.parent.mkdir(parents=True)
    write_png16(path, label)
    save(tmp_path / "RGB/train/0000000.png", np.zeros((2, 3, 3)))
    dataset = SYNTHIA(tmp_path, "train", no_transform)
    assert dataset[0]["label"].tolist() == [[13, 0, 255], [255, 10, 3]]
    write_png16(path, label + [256, 0, 0])
    with pytest.raises(ValueError, match=r"0.png cannot be read: class id 264 is not one of synthia's: 0-22"):
        dataset[0]


def test_missing_and_empty_roots(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected images/train/.*\.png with labels/train.*nowhere"):
        DATASETS["gtav"](tmp_path / "nowhere", "train", no_transform)
    with pytest.raises(FileNotFoundError, match="holds nothing"):
        DATASETS["gtav"](tmp_path, "train", no_transform)


def test_other_layout_is_described(tmp_path):
    for number in range(7):
        save(tmp_path / f"images/0000{number}.png", np.zeros((1, 1)))
    with pytest.raises(FileNotFoundError, match=r"images holds 00000.png, .*\(7 entries\)"):
        DATASETS["gtav"](tmp_path, "train", no_transform)


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown dataset 'kity', choose from cityscapes, gtav"):
        get_dataset_class("kity")


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="mapillary has no split 'test', it has train, val"):
        DATASETS["mapillary"](tmp_path, "test", no_transform)


def test_image_without_label(tmp_path):
    camvid(tmp_path, [[0]])
    save(tmp_path / "train/001.png", np.zeros((1, 1, 3)))
    with pytest.raises(FileNotFoundError, match=r"train/001.png needs .*trainannot/001.png"):
        DATASETS["camvid"](tmp_path, "train", no_transform)


def test_sizes_that_differ(tmp_path):
    dataset = camvid(tmp_path, np.zeros((2, 3)))
    save(tmp_path / "train/000.png", np.zeros((4, 5, 3)))
    with pytest.raises(ValueError, match=r"train/000.png is 5x4, .*trainannot/000.png is 3x2"):
        dataset[0]


def test_unknown_id(tmp_path):
    with pytest.raises(ValueError, match=r"0.png cannot be read: class id 77 is not one of camvid's: 0-11$"):
        camvid(tmp_path, [[0, 77]])[0]


def test_label_of_three_channels(tmp_path):
    dataset = camvid(tmp_path, [[0, 1]])
    save(tmp_path / "trainannot/000.png", np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="one channel of class ids, this one is a RGB image"):
        dataset[0]


@pytest.mark.parametrize("folder, kind", [("train", "image"), ("trainannot", "label")])
def test_truncated_file(tmp_path, folder, kind):
    rng = np.random.default_rng(0)
    dataset = camvid(tmp_path, rng.integers(0, 11, (40, 40)))
    path = tmp_path / folder / "000.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"{kind} .*{folder}/000.png cannot be read"):
        dataset[0]


def test_as_ranges():
    assert as_ranges(np.array([0, 1, 2, 5, 254, 255])) == "0-2, 5, 254-255"


def test_palette_is_pil_ready():
    image = Image.new("P", (1, 1), 13)
    image.putpalette(PALETTE)
    assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 142)
