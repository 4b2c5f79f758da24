"""The toy town: reproducible, complete, in the real encodings, and five domains that differ."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DATASETS
from datasets.labels import CITYSCAPES_LABELS
from datasets.toy_city import (
    ADVERSE_STYLES,
    CONDITIONS,
    STYLES,
    draw_scene,
    paths,
    render,
    write_pair,
    write_toy_city,
)
from datasets.toy_city.__main__ import main
from datasets.toy_city.rendering import add_fog, distances
from tests.helpers import no_transform
from utils.classes import CITYSCAPES

SIZE, TRAIN = (64, 128), 24
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # by train id
SYNTHIA_NAMES = {  # the classes of SYNTHIA-RAND-CITYSCAPES that Cityscapes scores
    1: "sky",
    2: "building",
    3: "road",
    4: "sidewalk",
    5: "fence",
    6: "vegetation",
    7: "pole",
    8: "car",
    9: "traffic sign",
    10: "person",
    11: "bicycle",
    12: "motorcycle",
    15: "traffic light",
    16: "terrain",
    17: "rider",
    18: "truck",
    19: "bus",
    20: "train",
    21: "wall",
}


def read_png16(path: Path) -> tuple[tuple, np.ndarray]:
    """Return the header fields and the samples (H, W, 3) of an unfiltered 16-bit RGB PNG."""
    data, chunks, at = path.read_bytes(), {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 8 + length
        chunks[kind] = data[at + 8 : end]
        assert data[end : end + 4] == struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    header = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(header[1], -1)
    assert not lines[:, 0].any()
    return header, lines[:, 1:].copy().view(">u2").reshape(header[1], header[0], 3)


def decode(domain: str, path: Path) -> np.ndarray:
    """Return the train ids (H, W) of a label file, void as 255."""
    if domain == "synthia":
        ids = read_png16(path)[1][..., 0]
        inverse = {number: CITYSCAPES.names.index(name) for number, name in SYNTHIA_NAMES.items()}
    else:
        ids = np.asarray(Image.open(path))
        inverse = {
            "bdd100k": {k: k for k in range(19)},
            "mapillary": {k: int(v) for k, v in enumerate(DATASETS["mapillary"].table[:66]) if v < 19},
        }.get(domain, {number: k for k, number in enumerate(CITYSCAPES_IDS)})
    label = np.full(ids.shape, 255, np.uint8)
    for number, train_id in inverse.items():
        label[ids == number] = train_id
    return label


def read(root: Path, domain: str, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, label = (root / domain / path for path in paths(domain, split, index))
    return np.asarray(Image.open(image)), decode(domain, label)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    return write_toy_city(tmp_path_factory.mktemp("town") / "out", size=SIZE, train=TRAIN, val=2)


@pytest.fixture(scope="module")
def labels(town) -> dict[str, np.ndarray]:
    return {domain: np.stack([read(town, domain, "train", k)[1] for k in range(TRAIN)]) for domain in STYLES}


def test_layouts(town):
    expected = {
        "cityscapes/leftImg8bit_trainvaltest/leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png",
        "cityscapes/gtFine_trainvaltest/gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png",
        "gtav/images/train/01/00024.png",
        "gtav/labels/valid/01/00002.png",
        "synthia/RGB/train/0000023.png",
        "synthia/GT/LABELS/val/0000001.png",
        "mapillary/training/images/toy_000023.jpg",
        "mapillary/validation/labels/toy_000001.png",
    }
    names = set(files(town))
    assert expected <= names
    assert len(names) == 1 + 5 * 2 * (TRAIN + 2)  # and the marker
    images = {Path(name).stem for name in names if name.startswith("bdd100k/images/train/")}
    assert len(images) == TRAIN
    assert {f"bdd100k/labels/train/{name}_train_id.png" for name in images} < names


def test_labels_decode_to_the_scene(town):
    for domain in STYLES:
        scene = draw_scene(SIZE, np.random.default_rng((0, zlib.crc32(f"{domain}/val".encode()), 1)))
        image, label = read(town, domain, "val", 1)
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        np.testing.assert_array_equal(label, scene.label[scene.parts], err_msg=domain)


ADVERSE = {  # dataset: pairs of train, of val, files of one pair
    "acdc_fog": (2, 3, 2),
    "acdc_night": (2, 3, 2),
    "acdc_rain": (2, 3, 2),
    "acdc_snow": (2, 3, 2),
    "dark_zurich": (2, 3, 2),
    "nighttime_driving": (0, 3, 2),
    "foggy_cityscapes": (2, 3, 4),  # three densities of fog
    "idd": (2, 3, 2),
}


@pytest.fixture(scope="module")
def adverse(tmp_path_factory) -> Path:
    domains = ["acdc", *(name for name in ADVERSE if not name.startswith("acdc"))]
    return write_toy_city(
        tmp_path_factory.mktemp("adverse") / "out", size=SIZE, train=2, val=3, domains=domains
    )


def test_adverse_domains_are_written_only_by_name(adverse):
    assert set(ADVERSE) == set(ADVERSE_STYLES) and not set(ADVERSE) & set(STYLES)
    pairs = {name: (train + val) * files for name, (train, val, files) in ADVERSE.items()}
    unlabelled = 2  # training images of Dark Zurich
    assert len(files(adverse)) == 1 + sum(pairs.values()) - unlabelled


@pytest.mark.parametrize("name", ADVERSE)
@pytest.mark.parametrize("split", ["train", "val"])
def test_adverse_domains_decode_to_the_scene(name, split, adverse):
    """As the dataset's class reads them, nothing left out."""
    if not ADVERSE[name][split == "val"]:
        return
    root = adverse / ("acdc" if name.startswith("acdc") else name)
    dataset = DATASETS[name](root, split, no_transform, strict=True)
    assert len(dataset) == ADVERSE[name][split == "val"]
    seed = f"{'cityscapes' if name == 'foggy_cityscapes' else name}/{split}"
    scenes = [draw_scene(SIZE, np.random.default_rng((0, zlib.crc32(seed.encode()), k))) for k in range(3)]
    labels = {scene.label[scene.parts].tobytes() for scene in scenes}
    for item in dataset:
        label = item["label"].numpy().astype(np.uint8)
        assert (
            (label == 255).all() if (name, split) == ("dark_zurich", "train") else label.tobytes() in labels
        )


def test_all_conditions_of_acdc(adverse):
    assert len(DATASETS["acdc"](adverse / "acdc", "val", no_transform, strict=True)) == 4 * 3


def test_fog_follows_koschmieders_law():
    """Contrast falls as exp(-beta d): 0.02 per metre leaves exp(-2) of it at 50 m and hides the sky."""
    scene = draw_scene(SIZE, np.random.default_rng(0))
    depth = distances(scene)
    pictures = [Image.new("RGB", SIZE[::-1], (grey,) * 3) for grey in (0, 200)]
    dark, bright = (np.asarray(add_fog(picture, scene, 0.02), float)[..., 0] for picture in pictures)
    np.testing.assert_allclose(bright - dark, 200 * np.exp(-0.02 * depth), atol=1)
    np.testing.assert_allclose(dark[depth > 900], 208, atol=1)


def test_the_look_of_the_conditions():
    """Night is dark, snow bright, and fog has little contrast, on the same scenes."""
    scenes = [draw_scene(SIZE, np.random.default_rng(k)) for k in range(6)]
    looks = {
        name: np.array([render(scene, style, np.random.default_rng(k)) for k, scene in enumerate(scenes)])
        for name, style in (STYLES | CONDITIONS).items()
    }
    mean = {name: images.mean() for name, images in looks.items()}
    contrast = {name: images.std((1, 2)).mean() for name, images in looks.items()}
    assert mean["night"] < 60 < min(mean[name] for name in looks if name != "night")
    assert mean["snow"] > mean["rain"] + 50
    assert contrast["fog"] < min(contrast[name] for name in STYLES)


def test_synthia_label_is_a_16_bit_rgb_png(town):
    path = town / "synthia/GT/LABELS/val/0000000.png"
    header, samples = read_png16(path)
    assert header == (128, 64, 16, 2, 0, 0, 0)  # width, height, bit depth, colour type RGB
    assert samples[..., 0].max() <= 22 and samples[..., 1].max() > 1 and not samples[..., 2].any()
    with Image.open(path) as image:
        image.load()  # Pillow accepts it, but keeps only 8 bits
        assert image.size == (128, 64)


def test_gtav_palette_holds_the_cityscapes_colors(town):
    with Image.open(town / "gtav/labels/valid/01/00001.png") as label:
        assert label.mode == "P"
        palette = np.array(label.getpalette()).reshape(-1, 3)
    for entry in CITYSCAPES_LABELS:
        if entry.id >= 0:
            assert tuple(palette[entry.id]) == entry.color


def test_void_is_a_real_id_that_is_not_scored(town):
    for domain, void in {"cityscapes": 4, "gtav": 4, "bdd100k": 255, "mapillary": 65}.items():
        labels = [Image.open(town / domain / paths(domain, "train", k)[1]) for k in range(TRAIN)]
        ids = np.unique(np.stack(labels))
        assert void in ids and len(ids) == 20, domain


def test_every_class_in_every_domain(labels):
    for domain, label in labels.items():
        count = np.bincount(label.ravel(), minlength=256)
        assert (count[:19] >= 40).all(), (domain, dict(zip(CITYSCAPES.names, count, strict=False)))
        assert set(np.flatnonzero(count)) == {*range(19), 255}


def test_class_imbalance(labels):
    label = np.stack(list(labels.values()))
    share = np.bincount(label.ravel(), minlength=256) / label.size
    of = dict(zip(CITYSCAPES.names, share, strict=False))
    assert of["road"] > 0.2 and min(of["building"], of["sky"]) > 0.08 and of["vegetation"] > 0.04
    for name in ("pole", "traffic light", "traffic sign", "person", "rider", "motorcycle", "bicycle"):
        assert 0.001 < of[name] < 0.06, name
    assert share[255] < 0.1


def test_same_bytes_twice_whatever_the_number_of_images(town, tmp_path):
    for domain in STYLES:
        write_pair(tmp_path, domain, "train", 3, SIZE, 0)
        write_pair(tmp_path, domain, "val", 1, SIZE, 0)
    first, again = files(town), files(tmp_path)
    assert len(again) == 20 and all(first[name] == data for name, data in again.items())
    write_pair(tmp_path / "other", "gtav", "train", 3, SIZE, 1)  # another seed
    image = "gtav/images/train/01/00004.png"
    assert (tmp_path / "other" / image).read_bytes() != first[image]


def test_domains_differ_on_the_same_scenes():
    """The channel means and deviations of an image differ by more than 8 of 255 between any two domains."""
    scenes = [draw_scene(SIZE, np.random.default_rng(k)) for k in range(8)]
    statistics = {}
    for name, style in STYLES.items():
        images = np.array([render(scene, style, np.random.default_rng(k)) for k, scene in enumerate(scenes)])
        statistics[name] = np.concatenate((images.mean((1, 2)), images.std((1, 2))), 1)  # (8, 6)
    for a, b in itertools.combinations(STYLES, 2):
        assert np.abs(statistics[a] - statistics[b]).mean() > 8, (a, b)


@pytest.mark.parametrize("size", [(33, 47), (96, 64), (16, 300)])
def test_any_size(size):
    for name, style in STYLES.items():
        scene = draw_scene(size, np.random.default_rng(0))
        assert render(scene, style, np.random.default_rng(2)).size == size[::-1], name
        assert scene.label[scene.parts].shape == size


def test_writes_once_and_only_where_nothing_is_lost(tmp_path, capsys):
    settings = {"size": (32, 64), "train": 1, "val": 1, "domains": ("gtav",)}
    write_toy_city(tmp_path / "out", **settings)
    image = tmp_path / "out/gtav/images/train/01/00001.png"
    written = image.stat().st_mtime_ns
    write_toy_city(tmp_path / "out", **settings)
    assert image.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="'seed': 0.*'seed': 1"):
        write_toy_city(tmp_path / "out", **settings | {"seed": 1})
    (tmp_path / "mine/gtav").mkdir(parents=True)
    (tmp_path / "mine/camvid").mkdir()
    with pytest.raises(ValueError, match="mine/gtav .*toy_city.json"):
        write_toy_city(tmp_path / "mine", **settings)
    write_toy_city(tmp_path / "mine", **settings | {"domains": ("idd",)})  # beside other data
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"gtav", "camvid", "idd", "toy_city.json"}
    assert not [*(tmp_path / "mine/gtav").iterdir()]
    with pytest.raises(ValueError, match="kitti.*gtav"):
        write_toy_city(tmp_path / "new", domains=("kitti",))
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "new"), "--domains", "kitti"])
    assert "kitti" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_an_interrupted_town_is_finished(tmp_path):
    settings = {"size": (32, 64), "train": 2, "val": 0, "domains": ("gtav",)}
    out = write_toy_city(tmp_path / "out", **settings)
    whole = files(out)
    (out / "gtav/images/train/01/00002.png").unlink()
    marker = out / "toy_city.json"
    marker.write_text(marker.read_text().replace('"done": true', '"done": false'))
    write_toy_city(out, **settings)
    assert files(out) == whole


def test_command_line(tmp_path, capsys):
    main(
        [
            "--out",
            str(tmp_path / "out"),
            "--height",
            "32",
            "--width",
            "64",
            "--train",
            "1",
            "--val",
            "1",
            "--seed",
            "5",
            "--domains",
            "bdd100k",
            "mapillary",
        ]
    )
    assert capsys.readouterr().out == f"written to {tmp_path / 'out'}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bdd100k", "mapillary", "toy_city.json"}
