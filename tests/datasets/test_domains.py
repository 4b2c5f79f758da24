"""Every domain's layouts and label encodings, and what each says about bad input."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config import Roots
from datasets import DATASETS, get_dataset_class
from datasets.kitti import VAL_SPLITS
from datasets.labels import CITYSCAPES_LABELS
from datasets.synthia import SYNTHIA, first_channel
from datasets.toy_city import write_png16
from tests.helpers import SIZE, TRAIN, VAL, no_transform, png_chunk, png_of, save, write_camvid
from utils.errors import MissingFile, UserError

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
    with pytest.raises(UserError, match=r"cv 3 .* 0\.\.2"):
        names("val", cv=3)


@pytest.mark.parametrize(
    ("cv", "held_out"),
    [
        (0, "frankfurt lindau munster"),
        (1, "darmstadt dusseldorf erfurt"),
        (2, "monchengladbach strasbourg stuttgart"),
    ],
)
def test_cities_of_the_cross_validation_splits(cv, held_out, tmp_path):
    """The published rule on the 21 real cities: val's are first, split k holds out the 3 from city 7 k on."""
    train = "aachen bochum bremen cologne darmstadt dusseldorf erfurt hamburg hanover jena krefeld "
    train += "monchengladbach strasbourg stuttgart tubingen ulm weimar zurich"
    for split, cities in (("train", train), ("val", "frankfurt lindau munster")):
        for city in cities.split():
            save(tmp_path / f"leftImg8bit/{split}/{city}/{city}_0_leftImg8bit.png", np.zeros((1, 1, 3)))
            save(tmp_path / f"gtFine/{split}/{city}/{city}_0_gtFine_labelIds.png", [[7]])
    found = {
        split: [s.image.parent.name for s in DATASETS["cityscapes"](tmp_path, split, None, cv=cv).samples]
        for split in ("train", "val")
    }
    assert sorted(found["val"]) == held_out.split() and len(found["train"]) == 18
    assert not set(found["val"]) & set(found["train"])


def test_newer_bdd_layout_and_unlabelled_test_split(tmp_path):
    for split in ("train", "test"):
        save(tmp_path / f"images/10k/{split}/x.jpg", np.zeros((2, 3, 3)))
    save(tmp_path / "labels/sem_seg/masks/train/x.png", [[0, 13, 18], [255, 255, 255]])
    train = DATASETS["bdd100k"](tmp_path, "train", no_transform)
    assert train[0]["label"].tolist() == [[0, 13, 18], [255, 255, 255]]
    test = DATASETS["bdd100k"](tmp_path, "test", no_transform)
    assert test[0]["name"] == "x" and test[0]["label"].tolist() == [[255] * 3] * 2


PARTS = [(images, labels) for images in ("rgb_anon_trainvaltest/", "") for labels in ("gt_trainval/", "")]


def write_acdc(root, condition, split, images="", labels="", number=1, label=13):
    """Write one pair of ACDC, and beside it what belongs to no split or is not read."""
    name = f"{split}/GOPR0122/{condition}_{number}"
    save(root / f"{images}rgb_anon/{condition}/{name}_rgb_anon.png", np.zeros((1, 2, 3)))
    for part in ("_ref", "ref"):
        save(
            root / f"{images}rgb_anon/{condition}/{split}{part}/GOPR0122/x_{number}_rgb_anon.png",
            np.zeros((1, 2, 3)),
        )
    if split != "test":
        place = root / f"{labels}gt/{condition}/{name}"
        save(Path(f"{place}_gt_labelTrainIds.png"), [[label, 255]])
        save(Path(f"{place}_gt_labelIds.png"), [[33, 3]])
        save(Path(f"{place}_gt_labelColor.png"), np.zeros((1, 2, 3)))


@pytest.mark.parametrize(("images", "labels"), PARTS)
def test_acdc_layouts(images, labels, tmp_path):
    """Every mixture of the two layouts of images and labels; the conditions share a root."""
    for number, condition in enumerate(("fog", "night", "rain", "snow")):
        for split in ("train", "val", "test"):
            write_acdc(tmp_path, condition, split, images, labels, label=number)
    for split in ("train", "val", "test"):
        dataset = DATASETS["acdc"](tmp_path, split, no_transform, strict=True)
        names = [f"{condition}_1_rgb_anon" for condition in ("fog", "night", "rain", "snow")]
        assert [item["name"] for item in dataset] == names
        first = [item["label"].tolist() for item in dataset]
        assert first == ([[[255, 255]]] * 4 if split == "test" else [[[k, 255]] for k in range(4)])
    (rain,) = DATASETS["acdc_rain"](tmp_path, "val", no_transform)
    assert rain["name"] == "rain_1_rgb_anon" and rain["label"].tolist() == [[2, 255]]


def test_acdc_without_a_condition(tmp_path):
    write_acdc(tmp_path, "fog", "val")
    assert len(DATASETS["acdc_fog"](tmp_path, "val", no_transform)) == 1
    with pytest.raises(MissingFile, match=r"no val images of acdc .*rgb_anon/night/val"):
        DATASETS["acdc"](tmp_path, "val", no_transform)


def test_datasets_that_share_a_root():
    roots = Roots("data")
    for name in ("acdc", "acdc_fog", "acdc_night", "acdc_rain", "acdc_snow"):
        assert roots(DATASETS[name]) == Path("data/acdc")
    for name in ("foggy_cityscapes", "foggy_cityscapes_0.01", "foggy_cityscapes_0.005"):
        assert roots(DATASETS[name]) == Path("data/foggy_cityscapes")


def test_dark_zurich(tmp_path):
    """The training images have no labels; those of day and twilight are of no split."""
    for folder in ("train/night", "train/day", "val/night", "val_ref/day", "test/night"):
        save(tmp_path / f"rgb_anon/{folder}/GOPR1/a_rgb_anon.png", np.zeros((1, 2, 3)))
    save(tmp_path / "gt/val/night/GOPR1/a_gt_labelTrainIds.png", [[18, 255]])
    for split, label in (("train", 255), ("val", 18), ("test", 255)):
        (item,) = DATASETS["dark_zurich"](tmp_path, split, no_transform, strict=True)
        assert item["name"] == "a_rgb_anon" and item["label"].tolist() == [[label, 255]]


@pytest.mark.parametrize("split", ["val", "test"])
def test_nighttime_driving(split, tmp_path):
    save(tmp_path / "leftImg8bit/test/night/0_x_leftImg8bit.png", np.zeros((1, 2, 3)))
    label = tmp_path / "gtCoarse_daytime_trainvaltest/test/night/0_x_gtCoarse_labelTrainIds.png"
    save(label, [[0, 255]])
    (item,) = DATASETS["nighttime_driving"](tmp_path, split, no_transform, strict=True)
    assert item["name"] == "0_x" and item["label"].tolist() == [[0, 255]]


@pytest.mark.parametrize("labels", ["gtFine_trainvaltest/gtFine", "gtFine"])
@pytest.mark.parametrize("images", ["leftImg8bit_trainvaltest_foggy/leftImg8bit_foggy", "leftImg8bit_foggy"])
def test_foggy_cityscapes(images, labels, tmp_path):
    """The densest fog has the plain name."""
    names = {"0.02": "foggy_cityscapes", "0.01": "foggy_cityscapes_0.01", "0.005": "foggy_cityscapes_0.005"}
    for grey, beta in enumerate(names):
        path = tmp_path / images / f"val/ulm/ulm_1_2_leftImg8bit_foggy_beta_{beta}.png"
        save(path, np.full((1, 2, 3), grey))
    save(tmp_path / labels / "val/ulm/ulm_1_2_gtFine_labelIds.png", [[26, 3]])
    for grey, name in enumerate(names.values()):
        (item,) = DATASETS[name](tmp_path, "val", no_transform, strict=True)
        assert item["name"] == "ulm_1_2" and item["label"].tolist() == [[13, 255]]
        assert item["image"].unique().tolist() == [grey]


def test_idd_of_png_and_jpeg_images(tmp_path):
    for drive, suffix in (("0", "png"), ("1", "jpg")):
        save(tmp_path / f"leftImg8bit/val/{drive}/frame{drive}_leftImg8bit.{suffix}", np.zeros((1, 2, 3)))
        save(tmp_path / f"gtFine/val/{drive}/frame{drive}_gtFine_labelcsTrainIds.png", [[18, 255]])
    items = list(DATASETS["idd"](tmp_path, "val", no_transform, strict=True))
    assert [item["name"] for item in items] == ["frame0", "frame1"]
    assert [item["label"].tolist() for item in items] == [[[18, 255]]] * 2


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
    rows = [label for label in CITYSCAPES_LABELS if label.name != "polegroup"]
    rgb = np.array([[row.color for row in rows]], np.uint8)
    assert gtav.decode_label(Image.fromarray(rgb)).tolist() == [[row.train_id for row in rows]]


def test_gtav_rejects_other_colours(gtav):
    with pytest.raises(UserError, match=r"colour \[1, 2, 3\]"):
        gtav.decode_label(palette_image([[0]], [(1, 2, 3)]))
    with pytest.raises(UserError, match=r"colour \[1, 2, 3\]"):
        gtav.decode_label(Image.new("RGB", (2, 2), (1, 2, 3)))
    with pytest.raises(UserError, match="GTAV label .* L"):
        gtav[0]
    with pytest.raises(UserError, match="index 7"):
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
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = zlib.compress(rows)
    return png_of(header, b"IDAT" + data[:50], b"IDAT" + data[50:], b"IEND")


def test_synthia_reads_every_png_filter():
    values = np.random.default_rng(0).integers(0, 65536, (23, 31, 3), np.uint16)
    decoded = Image.open(io.BytesIO(first_channel(filtered_png16(values))))
    assert (np.asarray(decoded) == values[..., 0]).all()


def test_synthia_rejects_other_files(toy):
    path = toy / "synthia/GT/LABELS/train/0000000.png"
    with pytest.raises(UserError, match="colour type 2, 8 bits"):
        first_channel((toy / "synthia/RGB/train/0000000.png").read_bytes())
    with pytest.raises(UserError, match="not a PNG"):
        first_channel(path.read_bytes()[1:])
    with pytest.raises(UserError):
        first_channel(path.read_bytes()[:300])
    png = path.read_bytes()
    clear = png_chunk(b"tRNS" + bytes(6))
    with pytest.raises(UserError, match="transparent colour"):
        first_channel(png[:33] + clear + png[33:])


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
    with pytest.raises(UserError, match=r"0.png .*264 .*synthia.*0-22"):
        SYNTHIA(tmp_path, "train", no_transform)[0]


def test_missing_and_empty_roots(tmp_path):
    with pytest.raises(MissingFile, match=r"expected images/train/.*\.png with labels/train.*nowhere"):
        DATASETS["gtav"](tmp_path / "nowhere", "train", no_transform)
    with pytest.raises(MissingFile, match="holds nothing"):
        DATASETS["gtav"](tmp_path, "train", no_transform)


def test_other_layout_is_described(tmp_path):
    for number in range(7):
        save(tmp_path / f"images/0000{number}.png", np.zeros((1, 1)))
    with pytest.raises(MissingFile, match=r"images holds 00000.png, .*\(7 entries\)"):
        DATASETS["bdd100k"](tmp_path, "train", no_transform)


def test_kitti_splits_by_number(tmp_path):
    """1 is in the first val split, 0 in the second, 3 in the third, 2 in none; a label of 26 is a car."""
    for number in range(4):
        save(tmp_path / f"training/image_2/{number:06d}_10.png", np.zeros((1, 1, 3)))
        save(tmp_path / f"training/image_2/{number:06d}_11.png", np.zeros((1, 1, 3)))  # of the stereo data
        save(tmp_path / f"training/semantic/{number:06d}_10.png", [[26]])
    save(tmp_path / "testing/image_2/000000_10.png", np.zeros((1, 1, 3)))

    def numbers(split, cv=0):
        dataset = DATASETS["kitti"](tmp_path, split, no_transform, cv=cv)
        return [int(dataset[i]["name"]) for i in range(len(dataset))]

    assert [numbers("val", cv) for cv in range(3)] == [[1], [0], [3]]
    assert [numbers("train", cv) for cv in range(3)] == [[0, 2, 3], [1, 2, 3], [0, 1, 2]]
    assert (numbers("trainval"), numbers("test")) == ([0, 1, 2, 3], [0])
    assert DATASETS["kitti"](tmp_path, "val", no_transform)[0]["label"].tolist() == [[13]]
    with pytest.raises(UserError, match=r"cv 3 .*kitti.* 0\.\.2"):
        numbers("val", 3)
    for folder in ("image_2", "semantic"):
        save(tmp_path / f"training/{folder}/x_10.png", np.zeros((1, 1)))
    with pytest.raises(UserError, match="kitti .*NNNNNN_10.png.*/x_10.png"):
        numbers("train")


def test_kitti_splits_are_the_published_ones():
    assert [len(set(split)) for split in VAL_SPLITS] == [21] * 3
    assert [sum(split) for split in VAL_SPLITS] == [2044, 2146, 2098]


def test_folder_finds_images_at_any_depth(tmp_path):
    for name in ("b.png", "a/x.JPG", "c/d/x.webp", ".hidden.png"):
        save(tmp_path / name, np.zeros((2, 3, 3)))
    (tmp_path / "notes.txt").write_text("no image")
    dataset = DATASETS["folder"](tmp_path, "val", no_transform)
    assert [dataset[i]["name"] for i in range(3)] == ["a/x", "b", "c/d/x"] and len(dataset) == 3
    assert dataset[0]["label"].tolist() == [[255] * 3] * 2
    save(tmp_path / "a/x.png", np.zeros((2, 3, 3)))
    assert [item["name"] for item in DATASETS["folder"](tmp_path, "val", no_transform)][:2] == [
        "a/x.JPG",
        "a/x.png",
    ]
    with pytest.raises(MissingFile, match=r"empty.* \*.png, \*.jpg.*nothing"):
        (tmp_path / "empty").mkdir()
        DATASETS["folder"](tmp_path / "empty", "val", no_transform)


def test_null_needs_nothing():
    assert len(DATASETS["null"]("nowhere", "val", no_transform)) == 0


def write_cityscapes(root, names, *, images="leftImg8bit", labels="gtFine", split="train", kind="gtFine"):
    """Write one pair of 1x1 px per CITY_SEQUENCE_FRAME, all cars."""
    for name in names:
        city = name.partition("_")[0]
        save(root / f"{images}/{split}/{city}/{name}_leftImg8bit.png", np.zeros((1, 1, 3)))
        save(root / f"{labels}/{split}/{city}/{name}_{kind}_labelIds.png", [[26]])


@pytest.mark.parametrize(
    ("images", "labels"),
    [("leftImg8bit_trainextra/leftImg8bit", "gtCoarse/gtCoarse"), ("leftImg8bit", "gtCoarse")],
)
def test_cityscapes_coarse(tmp_path, images, labels):
    write_cityscapes(tmp_path, ["a_0_0"])
    write_cityscapes(tmp_path, ["b_0_0"], images=images, labels=labels, split="train_extra", kind="gtCoarse")
    coarse = DATASETS["cityscapes"](tmp_path, "train_extra", no_transform)
    assert [(item["name"], item["label"].tolist()) for item in coarse] == [("b_0_0", [[13]])]


@pytest.mark.parametrize("folder", ["", "leftImg8bit_sequence_trainvaltest/"])
def test_cityscapes_video_frames(tmp_path, folder, caplog):
    """Frames 17 and 21 around the two annotated frames 19; 21 of the second is not there."""
    write_cityscapes(tmp_path, ["a_000000_000019", "a_000001_000019"])
    for name in ("a_000000_000017", "a_000000_000021", "a_000001_000017", "a_000001_000020"):
        path = tmp_path / folder / f"leftImg8bit_sequence/train/a/{name}_leftImg8bit.png"
        save(path, np.zeros((1, 1, 3)))
    dataset = DATASETS["cityscapes"](tmp_path, "train", no_transform, max_skip=2)
    names = ["0_000019", "1_000019", "0_000017", "0_000021", "1_000017"]
    assert [item["name"] for item in dataset] == [f"a_00000{name}" for name in names]
    assert [item["label"].tolist() for item in dataset] == [[[13]]] * 5
    assert re.search("a_000001_000021_leftImg8bit.png$", caplog.messages[-1])
    with pytest.raises(UserError, match="a_000001_000021.*--strict_data"):
        DATASETS["cityscapes"](tmp_path, "train", no_transform, max_skip=2, strict=True)


def test_cityscapes_without_video(tmp_path):
    write_cityscapes(tmp_path, ["a_000000_000019"])
    with pytest.raises(MissingFile, match="leftImg8bit_sequence_trainvaltest"):
        DATASETS["cityscapes"](tmp_path, "train", no_transform, max_skip=2)


def test_gtav_pairs_of_different_sizes_are_left_out(gtav, caplog):
    root = gtav.root
    for number, size in ((2, (4, 5)), (3, (1, 2))):
        save(root / f"images/train/folder/0000{number}.png", np.zeros((*size, 3)))
        save(root / f"labels/train/folder/0000{number}.png", np.zeros((1, 2)))
    dataset = DATASETS["gtav"](root, "train", no_transform)
    assert [dataset.name_of(sample) for sample in dataset.samples] == ["00001", "00003"]
    (text,) = dataset.skipped
    assert text in caplog.text and re.search(r"\S+00002.png is 5x4, \S+00002.png 2x1$", text)
    with pytest.raises(UserError, match=r"\S+00002.png is 5x4.*--strict_data"):
        DATASETS["gtav"](root, "train", no_transform, strict=True)


def test_gtav_lists_a_pair_whose_header_is_damaged(gtav):
    path = gtav.root / "images/train/folder/00001.png"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="00001.png"):
        DATASETS["gtav"](gtav.root, "train", no_transform)[0]


def test_two_images_of_one_name(gtav):
    for kind in ("images", "labels"):
        save(gtav.root / kind / "train/other/00001.png", np.zeros((1, 2, 3)))
    with pytest.raises(UserError, match=r"/folder/00001.png .*/other/00001.png"):
        DATASETS["gtav"](gtav.root, "train", no_transform)


def test_label_without_its_image(tmp_path, caplog):
    camvid(tmp_path, [[0]])
    save(tmp_path / "trainannot/001.png", [[0]])
    assert len(DATASETS["camvid"](tmp_path, "train", no_transform)) == 1
    assert re.search(r"labels without \S+ image: \S+trainannot/001.png", caplog.text)
    with pytest.raises(UserError, match="labels without .*001.png"):
        DATASETS["camvid"](tmp_path, "train", no_transform, strict=True)


def test_many_names_are_cut_short(tmp_path):
    camvid(tmp_path, [[0]])
    for number in range(30):
        save(tmp_path / f"trainannot/9{number:02}.png", [[0]])
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    assert "919.png and 10 more" in dataset.skipped[0] and "920.png" not in dataset.skipped[0]


def test_unreadable_folder(tmp_path, monkeypatch):
    """Raised by the system call, as the tests may run with the rights to read everything."""
    camvid(tmp_path, [[0]])
    scandir = os.scandir

    def forbid(path):
        if str(path).endswith("trainannot"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    with pytest.raises(UserError, match="trainannot .*Permission denied"):
        DATASETS["camvid"](tmp_path, "train", no_transform)


@pytest.mark.parametrize("values", [np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.float32)])
def test_image_of_more_than_8_bits(tmp_path, values):
    camvid(tmp_path, [[0]])
    path = tmp_path / "train/000.png"
    Image.fromarray(values).save(path, format="TIFF")
    with pytest.raises(UserError, match=r"000.png .*8 bits per channel"):
        DATASETS["camvid"](tmp_path, "train", no_transform)[0]


def test_grey_and_palette_images_are_read_as_rgb(tmp_path):
    camvid(tmp_path, [[0]])
    for image in (
        Image.new("L", (1, 1), 7),
        Image.new("RGBA", (1, 1), (7,) * 4),
        palette_image([[0]], [(7,) * 3]),
    ):
        image.save(tmp_path / "train/000.png")
        dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
        assert dataset[0]["image"].flatten().tolist() == [7] * 3


def test_unknown_names():
    with pytest.raises(UserError, match="'kity'.* cityscapes, gtav"):
        get_dataset_class("kity")


def test_unknown_split(tmp_path):
    with pytest.raises(UserError, match="mapillary .*'test'.* train, val"):
        DATASETS["mapillary"](tmp_path, "test", no_transform)


def test_image_without_label(tmp_path):
    camvid(tmp_path, [[0]])
    save(tmp_path / "train/001.png", np.zeros((1, 1, 3)))
    with pytest.raises(MissingFile, match=r"train/001.png needs .*trainannot/001.png"):
        DATASETS["camvid"](tmp_path, "train", no_transform)


def test_sizes_that_differ(tmp_path):
    camvid(tmp_path, np.zeros((2, 3)))
    save(tmp_path / "train/000.png", np.zeros((4, 5, 3)))
    with pytest.raises(UserError, match=r"train/000.png is 5x4, .*trainannot/000.png is 3x2"):
        DATASETS["camvid"](tmp_path, "train", no_transform)[0]


def test_unknown_id(tmp_path):
    with pytest.raises(UserError, match=r"0.png .*77 .*camvid.*0-11$"):
        camvid(tmp_path, [[0, 77]])[0]


def test_label_of_three_channels(tmp_path):
    camvid(tmp_path, [[0, 1]])
    save(tmp_path / "trainannot/000.png", [[[0, 0, 0], [1, 1, 2]]])
    with pytest.raises(UserError, match="one channel .*RGB"):
        DATASETS["camvid"](tmp_path, "train", no_transform)[0]


@pytest.mark.parametrize("folder, kind", [("train", "image"), ("trainannot", "label")])
def test_truncated_file(tmp_path, folder, kind):
    rng = np.random.default_rng(0)
    camvid(tmp_path, rng.integers(0, 11, (40, 40)))
    path = tmp_path / folder / "000.png"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    with pytest.raises(UserError, match=rf"{kind} .*{folder}/000.png cannot be read"):
        dataset[0]
    if kind == "label":
        with pytest.raises(UserError, match=r"label .*trainannot/000.png cannot be read"):
            dataset.read_label(path)


def test_a_list_of_images(tmp_path):
    for name in ("a/x.png", "b/x.png", "c.png"):
        save(tmp_path / name, np.zeros((2, 2, 3)))
    listed = tmp_path / "target.txt"
    listed.write_text("b/x.png\n\nc.png\n")
    dataset = DATASETS["folder"](listed, "train", no_transform)
    assert [dataset[i]["name"] for i in range(len(dataset))] == ["b/x", "c"]
    listed.write_text("b/x.png\nd.png\n")
    with pytest.raises(MissingFile, match="1 images .*target.txt .*d.png"):
        DATASETS["folder"](listed, "train", no_transform)
    listed.write_text("\n")
    with pytest.raises(MissingFile, match="list .*target.txt"):
        DATASETS["folder"](listed, "train", no_transform)
