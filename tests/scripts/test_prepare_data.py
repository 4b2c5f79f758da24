"""Downloads in the official layouts, arranged, read and checked."""

import logging
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import DATASETS
from datasets.toy_city import ENCODINGS, write_png16, write_toy_city
from scripts import prepare_data
from tests.helpers import run_command
from utils.errors import MissingFile, UserError
from utils.exit import exit_cleanly

ROOT = Path(__file__).parents[2]
DOWNLOADS = {  # archive -> files as the official sites pack them; {} is the number
    "cityscapes": {
        "leftImg8bit_trainvaltest": "leftImg8bit/{split}/ulm/ulm_00000{}_000019_leftImg8bit.png",
        "gtFine_trainvaltest": "gtFine/{split}/ulm/ulm_00000{}_000019_gtFine_labelIds.png",
        "leftImg8bit_trainextra": "leftImg8bit/train_extra/bonn/bonn_00000{}_000019_leftImg8bit.png",
        "gtCoarse": "gtCoarse/train_extra/bonn/bonn_00000{}_000019_gtCoarse_labelIds.png",
        "leftImg8bit_sequence": "leftImg8bit_sequence/{split}/ulm/ulm_00000{}_000018_leftImg8bit.png",
    },
    "gtav": {"01_images": "images/000{}.png", "01_labels": "labels/000{}.png"},
    "synthia": {"RGB": "RAND_CITYSCAPES/RGB/00000{}.png", "LABELS": "RAND_CITYSCAPES/GT/LABELS/00000{}.png"},
    "bdd100k": {
        "images": "bdd100k/seg/images/{split}/a{}.jpg",
        "labels": "bdd100k/seg/labels/{split}/a{}_train_id.png",
    },
    "bdd100k newer": {
        "images": "bdd100k/images/10k/{split}/a{}.jpg",
        "labels": "bdd100k/labels/sem_seg/masks/{split}/a{}.png",
    },
    "mapillary": {"images": "{split}/images/a{}.jpg", "labels": "{split}/labels/a{}.png"},
    "mapillary 2.0": {"images": "{split}/images/a{}.jpg", "labels": "{split}/v1.2/labels/a{}.png"},
    "camvid": {"images": "CamVid/{split}/a{}.png", "labels": "CamVid/{split}annot/a{}.png"},
    "kitti": {
        "images": "data_semantics/training/image_2/0000{}_10.png",
        "labels": "data_semantics/training/semantic/0000{}_10.png",
    },
    "acdc": {
        "rgb_anon_trainvaltest": "rgb_anon/fog/{split}/GOPR0/a{}_rgb_anon.png",
        "gt_trainval": "gt/fog/{split}/GOPR0/a{}_gt_labelTrainIds.png",
    },
    "foggy_cityscapes": {
        "leftImg8bit_foggy": "leftImg8bit_foggy/{split}/ulm/ulm_{}_leftImg8bit_foggy_beta_0.02.png",
        "gtFine": "gtFine/{split}/ulm/ulm_{}_gtFine_labelIds.png",
    },
    "idd": {
        "images": "IDD_Segmentation/leftImg8bit/{split}/0/{}_leftImg8bit.png",
        "labels": "IDD_Segmentation/gtFine/{split}/0/{}_gtFine_labelcsTrainIds.png",
    },
}
NUMBERS = {"gtav": (1, 22), "synthia": (1, 12), "kitti": (0, 1)}  # one of train, one of val


SPLITS = ("train", "val")
ROAD = {"camvid": 3, "kitti": 7, "acdc": 0} | {
    name: int(ids[0]) for name, ids in ENCODINGS.items()
}  # the dataset's number


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (9, 9, 9)).save(path)


def write_label(path, name):
    """Write 4x6 px of road as the dataset has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "synthia":
        write_png16(path, np.full((4, 6, 3), ROAD[name]))
    elif name == "gtav":
        Image.new("RGB", (6, 4), (128, 64, 128)).save(path)
    else:
        Image.new("L", (6, 4), ROAD[name]).save(path)


@pytest.fixture
def download(tmp_path):
    def make(kind):
        name, folder = kind.split()[0], tmp_path / "download"
        splits = ("training", "validation") if name == "mapillary" else SPLITS
        for archive, path in DOWNLOADS[kind].items():
            for number, split in zip(NUMBERS.get(name, (1, 2)), splits, strict=True):
                number = f"{number:02d}" if name in NUMBERS else number
                file = folder / path.replace("{}", str(number)).replace("{split}", split)
                if "label" in archive.lower() or "gt" in archive:
                    write_label(file, name)
                else:
                    write_image(file)
        (folder / "license.txt").write_text("for research")
        return folder

    return make


def pack(folder):
    """Turn a folder into DOWNLOAD.zip in a folder of its own."""
    (folder.parent / "packed").mkdir()
    with zipfile.ZipFile(folder.parent / "packed/download.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return folder.parent / "packed"


@pytest.mark.parametrize("packed", [False, True], ids=["extracted", "zip"])
@pytest.mark.parametrize("kind", DOWNLOADS)
def test_official_downloads(kind, packed, download, tmp_path, capsys):
    name, src, dst = kind.split()[0], download(kind), tmp_path / "root"
    src = pack(src) if packed else src
    prepare_data.main([name, "--src", str(src), "--dst", str(dst)])
    for split in SPLITS:
        shown = "acdc_fog" if name == "acdc" else name
        (item,) = DATASETS[shown](dst, split, prepare_data.unchanged)
        assert item["image"].shape == (4, 6, 3) and item["label"].tolist() == [[0] * 6] * 4
    files = [path for path in dst.rglob("*") if not path.is_dir()]
    assert all(path.is_symlink() != packed for path in files)
    assert (
        f"{len(files)} files placed in {dst}, 0 were there; 0 in no split, 1 others"
        in capsys.readouterr().out
    )
    prepare_data.main([name, "--src", str(src), "--dst", str(dst)])
    assert f"0 files placed in {dst}, {len(files)} were there" in capsys.readouterr().out


def test_cityscapes_extras(download, tmp_path):
    dst = tmp_path / "root"
    prepare_data.arrange("cityscapes", download("cityscapes"), dst)
    assert len(DATASETS["cityscapes"](dst, "train_extra", None)) == 2
    assert len(DATASETS["cityscapes"](dst, "train", None, max_skip=1).samples) == 2  # one frame of two


def test_copies_and_numbers_in_no_split(download, tmp_path, capsys):
    """19993 is published as left out; 30000 is in no list."""
    src, dst = download("gtav"), tmp_path / "root"
    for number in (19993, 30000):
        write_image(src / f"images/{number}.png")
    prepare_data.main(["gtav", "--src", str(src), "--dst", str(dst), "--copy"])
    files = sorted(path.relative_to(dst).as_posix() for path in dst.rglob("*.png"))
    folders = ("images/train", "images/valid", "labels/train", "labels/valid")
    assert files == [f"{folder}/01/000{'22' if 'valid' in folder else '01'}.png" for folder in folders]
    assert not any((dst / file).is_symlink() for file in files)
    assert "in no published split, not placed: " in (out := capsys.readouterr().out)
    assert "30000.png" in out and "19993" not in out


def test_an_interrupted_run_is_taken_up(download, tmp_path):
    src, dst = download("kitti"), tmp_path / "root"
    prepare_data.arrange("kitti", src, dst)
    first, second = sorted(dst.glob("training/image_2/*"))
    first.unlink()
    second.unlink()
    second.symlink_to(tmp_path / "moved away")
    prepare_data.arrange("kitti", src, dst)
    assert len(DATASETS["kitti"](dst, "trainval", None)) == 2 and second.exists()
    second.unlink()
    second.write_bytes(b"x")
    with pytest.raises(UserError, match="000001_10.png .* 1 bytes"):
        prepare_data.arrange("kitti", src, dst)


def test_what_cannot_be_arranged(download, tmp_path):
    src = tmp_path / "empty"
    with pytest.raises(MissingFile, match="empty"):
        prepare_data.arrange("synthia", src, tmp_path / "root")
    src.mkdir()
    (src / "SYNTHIA_RAND_CITYSCAPES.rar").write_text("Rar!")
    with pytest.raises(MissingFile, match=r"synthia .*RGB.* \S+CITYSCAPES.rar"):
        prepare_data.arrange("synthia", src, tmp_path / "root")
    (src / "bad.zip").write_text("PK")
    with pytest.raises(UserError, match="bad.zip"):
        prepare_data.arrange("synthia", src, tmp_path / "root")


def test_a_damaged_archive_leaves_no_file(download, tmp_path):
    src = pack(download("kitti"))
    archive = src / "download.zip"
    data = bytearray(archive.read_bytes())
    data[data.find(b"IDAT") + 6] ^= 255
    archive.write_bytes(data)
    with pytest.raises(UserError, match="download.zip:data_semantics/"):
        prepare_data.arrange("kitti", src, tmp_path / "root")
    assert not list((tmp_path / "root").rglob("*.png*"))


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """A root DIR/camvid that is fine: one image in train, val and test, all road."""
    monkeypatch.setattr(DATASETS["camvid"], "published", {"train": 1, "val": 1, "test": 1})
    for split in ("train", "val", "test"):
        write_image(tmp_path / f"camvid/{split}/a.png")
        write_label(tmp_path / f"camvid/{split}annot/a.png", "camvid")
    return tmp_path


def test_check_of_a_good_dataset(camvid, capsys):
    level = logging.getLogger("robustnet").level
    prepare_data.main(["check", "--data_root", str(camvid)])
    assert logging.getLogger("robustnet").level == level
    out = capsys.readouterr().out
    assert "train: 1 images (published: 1)" in out and "camvid: fine" in out
    assert "road               72  100.000" in out  # 3 images of 24 px
    assert f"gtav: {camvid}/gtav is not there" in out


def small(root):
    Image.new("L", (5, 4), 3).save(root / "valannot/a.png")


def unknown_id(root):
    Image.new("L", (6, 4), 77).save(root / "valannot/a.png")


def truncated(root):
    path = root / "val/a.png"
    path.write_bytes(path.read_bytes()[:-30])


def missing_label(root):
    (root / "valannot/a.png").unlink()


def extra_label(root):
    (root / "valannot/b.png").write_bytes(b"")


def one_more(root):
    write_image(root / "val/b.png")
    write_label(root / "valannot/b.png", "camvid")


def no_val(root):
    (root / "val").rename(root / "nowhere")


IMAGE, SPLIT = "1 image cannot be used", "1 split cannot be used"


@pytest.mark.parametrize(
    ("spoil", "message", "verdict"),
    [
        (small, "differ in size: {root}/val/a.png is 6x4, {root}/valannot/a.png is 5x4", IMAGE),
        (
            unknown_id,
            "label {root}/valannot/a.png cannot be read: class id 77 is not one of camvid's",
            f"{IMAGE}, 24 pixels of unknown values",
        ),
        (truncated, "image {root}/val/a.png cannot be read", IMAGE),
        (missing_label, "image without its label: {root}/val/a.png needs {root}/valannot/a.png", SPLIT),
        (extra_label, "labels without their image: {root}/valannot/b.png", "1 file left out"),
        (no_val, "val: no val images of camvid in {root}", SPLIT),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_check_finds(spoil, message, verdict, camvid, capsys):
    spoil(camvid / "camvid")
    with pytest.raises(SystemExit) as exit_info:
        prepare_data.main(["check", "camvid", "--data_root", str(camvid)])
    assert exit_info.value.code == 1
    out = capsys.readouterr().out
    assert message.format(root=camvid / "camvid") in out
    assert f"camvid: NOT fine: {verdict}\n" in out


def test_a_count_that_is_not_sure_is_no_problem(tmp_path, capsys):
    """Datasets that share a root are checked only by name."""
    write_toy_city(tmp_path, size=(32, 64), train=1, val=1, domains=["acdc", "idd", "foggy_cityscapes"])
    prepare_data.main(["check", "--data_root", str(tmp_path)])
    out = capsys.readouterr().out
    assert "train: 4 images (published: 1600)" in out and "acdc: fine" in out and "acdc_fog" not in out
    assert "train: 1 images (published: 6993)" in out and "idd: fine" in out
    names = ["acdc_rain", "foggy_cityscapes_0.005"]
    prepare_data.main(["check", *names, "--data_root", str(tmp_path)])
    out = capsys.readouterr().out
    assert all(f"{name}: fine" in out for name in names)


@pytest.mark.parametrize("more", [True, False])
def test_another_number_of_images_than_the_published_one(more, camvid, capsys, monkeypatch):
    """As of a dataset of one's own, or of a part of the published one."""
    if more:
        one_more(camvid / "camvid")
    else:
        monkeypatch.setattr(DATASETS["camvid"], "published", {"train": 367, "val": 101, "test": 233})
    prepare_data.main(["check", "camvid", "--data_root", str(camvid)])
    out = capsys.readouterr().out
    assert f"val: {1 + more} images (published: {1 if more else 101})" in out
    assert "camvid: complete for training, not the published counts" in out and "NOT" not in out


def test_a_part_of_a_flat_download_is_complete_for_training(download, tmp_path, capsys):
    root = tmp_path / "gtav"
    for kind in ("images", "labels"):
        for path in sorted(download("gtav").glob(f"{kind}/*.png")):
            (root / kind).mkdir(parents=True, exist_ok=True)
            (root / kind / path.name).write_bytes(path.read_bytes())
    prepare_data.main(["check", "gtav", "--data_root", str(tmp_path)])
    out = capsys.readouterr().out
    assert "12387 of 12388 published images are missing" in out
    assert "gtav: complete for training, not the published counts" in out


def test_two_thousand_missing_labels(camvid, capsys):
    """Some of them, or all of a split: a few names and the number."""
    for split in ("train", "val"):
        for path in (camvid / f"camvid/{split}").iterdir():
            for number in range(2000):
                path.with_name(f"missing{number}.png").hardlink_to(path)
    (camvid / "camvid/valannot/a.png").unlink()
    with pytest.raises(SystemExit):
        prepare_data.main(["check", "camvid", "--data_root", str(camvid)])
    out = capsys.readouterr().out
    assert "and 1997 more: 2000 images like this" in out and "and 1998 more" in out
    assert "camvid: NOT fine: 2000 images cannot be used, 1 split cannot be used\n" in out
    assert max(map(len, out.splitlines())) < 700 and len(out) < 3000


def test_a_few_of_each_kind_however_many_there_are(camvid, capsys):
    """Ten missing labels do not hide the damaged image; names of 200 bytes do not make a line of 4 kB."""
    root = camvid / "camvid"
    for number in range(10):
        write_image(root / f"val/missing{number}.png")
        unknown_id(root)
        (root / "valannot/a.png").replace(root / f"valannot/unknown{number}.png")
        write_image(root / f"val/unknown{number}.png")
    write_label(root / "valannot/a.png", "camvid")
    for number in range(40):
        (root / f"valannot/{'n' * 200}{number}.png").touch()
    truncated(root)
    assert not prepare_data.check("camvid", root, 2)
    out = capsys.readouterr().out
    assert "and 7 more: 10 images like this" in out and f"image {root}/val/a.png cannot" in out
    assert "and 7 more: 10 images, 240 pixels like this" in out
    assert out.count("class id 77") == out.count("image without its label") == 3
    parts = "21 images cannot be used, 40 files left out, 240 pixels of unknown values"
    assert f"camvid: NOT fine: {parts}\n" in out and max(map(len, out.splitlines())) < 700


def test_check_reads_on_where_a_label_is_missing(camvid, capsys):
    root = camvid / "camvid"
    unknown_id(root)
    write_image(root / "val/b.png")
    write_image(root / "val/c.png")
    with pytest.raises(SystemExit):
        prepare_data.main(["check", "camvid", "--data_root", str(camvid)])
    out = capsys.readouterr().out
    for name in "bc":
        assert f"{root}/val/{name}.png needs {root}/valannot/{name}.png, which is not there" in out
    assert "class id 77" in out and "camvid: NOT fine: 3 images cannot be used, 24 pixels" in out


def test_check_of_nothing(tmp_path, capsys):
    for names in ([], ["gtav"]):
        with pytest.raises(SystemExit) as exit_info:
            prepare_data.main(["check", *names, "--data_root", str(tmp_path)])
        assert exit_info.value.code == 1
    assert (
        "no dataset is there" in (out := capsys.readouterr().out) and "gtav: NOT fine: 2 splits cannot" in out
    )
    with pytest.raises(SystemExit), exit_cleanly():
        prepare_data.main(["check", "gta"])
    assert "unknown dataset gta, choose from cityscapes, gtav" in capsys.readouterr().err
    with pytest.raises(UserError, match="--workers must be from 1 to .*, not 0"):
        prepare_data.main(["check", "--workers", "0"])


@pytest.mark.parametrize("command", [["-m", "scripts.prepare_data"], ["scripts/prepare_data.py"]])
def test_both_ways_to_run(command, tmp_path):
    command = [sys.executable, *command, "check", "--data_root", str(tmp_path)]
    done = run_command(command)
    assert done.returncode == 1 and "no dataset is there" in done.stdout, done.stderr


def test_every_dataset_but_null_and_folder_can_be_arranged_and_has_counts():
    for name, dataset in DATASETS.items():
        assert bool(dataset.download) == bool(dataset.published) == (name not in ("folder", "null"))
    assert prepare_data.checkable() == [name for name in DATASETS if name != "null"]
