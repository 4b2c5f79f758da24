"""Each real file once, and what is left out said in one line."""

import os

import numpy as np
import pytest

from datasets import DATASETS
from datasets.cache import CachedImages
from datasets.class_uniform import ClassUniform
from datasets.walk import stem_of, walk
from tests.helpers import no_transform, save, write_camvid
from utils.errors import MissingFile, UserError

PIXELS = np.zeros((2, 3, 3))
USUAL = ("a.JPG", "b.jpeg", "c.Png", "d.tif", "e.TIFF", "f.bmp", "g.webp", "h.PPM", "i.gif", "j.jfif")


def folder(root, **options):
    return DATASETS["folder"](root, "val", no_transform, **options)


def names(dataset):
    return [dataset.name_of(sample) for sample in dataset.samples]


def test_usual_suffixes_in_any_case(tmp_path):
    for name in USUAL:
        save(tmp_path / name, PIXELS)
    dataset = folder(tmp_path)
    assert names(dataset) == list("abcdefghij") and not dataset.notes and not dataset.skipped
    assert all(item["image"].shape == (3, 2, 3) for item in dataset)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_dataset_takes_all_suffixes_too(labelled, tmp_path):
    write_camvid(tmp_path, [[[0]]])
    for number, name in enumerate(USUAL):
        save(tmp_path / f"train/{name}", np.zeros((1, 1, 3)))
        save(tmp_path / f"trainannot/{name[0]}{('.PNG', '.png', '.tif')[number % 3]}", [[3]])
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform, labelled=labelled)
    assert sorted(names(dataset)) == ["000", *"abcdefghij"] and not dataset.skipped
    if labelled:
        assert [item["label"].item() for item in dataset] == [10] + 10 * [0]


@pytest.mark.parametrize(
    "name, suffix, stem",
    [
        ("a.png", ".png", "a"),
        ("a.JPEG", ".png", "a"),
        ("a.txt", ".png", None),
        ("u_leftImg8bit.JPG", "_leftImg8bit.png", "u"),
        ("u_color.png", "_leftImg8bit.png", None),
        ("000001_11.png", "_10.png", None),
        ("a.npy", ".npy", "a"),
        ("a.png", ".npy", None),
    ],
)
def test_stems(name, suffix, stem):
    assert stem_of(name, suffix) == stem


def test_a_second_image_of_one_name_is_said_to_be_left_out(tmp_path, caplog):
    write_camvid(tmp_path, [[[3]]])
    save(tmp_path / "train/000.jpg", np.ones((5, 5, 3)))
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    assert dataset[0]["image"].shape == (3, 1, 1)
    assert f"images beside one of the same name: {tmp_path}/train/000.jpg" in caplog.text
    with pytest.raises(UserError, match="000.jpg.*--strict_data"):
        DATASETS["camvid"](tmp_path, "train", no_transform, strict=True)


def test_hidden_and_system_files_and_other_kinds(tmp_path, caplog):
    for name in (
        ".ipynb_checkpoints/a.png",
        ".b.png",
        "__MACOSX/._c.png",
        "@eaDir/d.png",
        "e/.git/e.png",
        "f.png",
    ):
        save(tmp_path / name, PIXELS)
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe.png")
    dataset = folder(tmp_path)
    assert names(dataset) == ["f"] and not dataset.skipped
    (line,) = [message for message in caplog.messages if "left out" in message]
    assert "5 hidden (.b.png, .ipynb_checkpoints, @eaDir and 2 more)" in line
    assert "1 neither files nor folders (pipe.png)" in line and "1 no images (notes.txt)" in line


def test_images_that_are_not_read(tmp_path, caplog):
    save(tmp_path / "a.png", PIXELS)
    (tmp_path / "b.HEIC").touch()
    assert len(folder(tmp_path)) == 1
    assert f"convert them to PNG: {tmp_path}/b.HEIC" in caplog.text
    with pytest.raises(UserError, match="b.HEIC.*--strict_data"):
        folder(tmp_path, strict=True)
    write_camvid(tmp_path, [[[3]]])
    (tmp_path / "train/b.heic").touch()
    assert "b.heic" in DATASETS["camvid"](tmp_path, "train", no_transform).skipped[0]


def test_links(tmp_path):
    """Links to the folder itself, to folders in it, to an image, to a folder elsewhere, to nothing."""
    root = tmp_path / "root"
    for name in ("a.png", "sub/b.png", "sub/deep/c.png"):
        save(root / name, PIXELS)
    save(tmp_path / "out/d.png", PIXELS)
    links = {
        "loop": ".",
        "again": "sub",
        "0.png": "a.png",
        "sub/up": "..",
        "z.png": "nowhere",
        "me.png": "me.png",
    }
    for link, target in (links | {"sub/deep/out": "../../../out"}).items():
        (root / link).symlink_to(target)
    dataset = folder(root)
    assert names(dataset) == ["a", "me", "sub/b", "sub/deep/c", "sub/deep/out/d", "z"]
    assert "3 links to folders that are listed already" in dataset.notes[0]
    assert "1 links to files that are listed already (0.png)" in dataset.notes[0]
    unreadable = {item["name"]: item["unreadable"] for item in dataset if "unreadable" in item}
    assert list(unreadable) == ["me", "z"] and "z.png is not there" in unreadable["z"]


def test_labelled_data_may_be_linked_more_than_once(tmp_path):
    """Two folders of images share their labels by links; only loops are not followed."""
    for name in ("fog", "rain"):
        save(tmp_path / f"train/{name}/{name}_x.png", np.zeros((1, 1, 3)))
    for name in ("fog_x", "rain_x"):
        save(tmp_path / f"labels/{name}.png", [[3]])
    (tmp_path / "trainannot").mkdir()
    for name in ("fog", "rain"):
        (tmp_path / f"trainannot/{name}").symlink_to(tmp_path / "labels")
        (tmp_path / f"train/{name}/loop").symlink_to(tmp_path / "train")
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    assert names(dataset) == ["fog_x", "rain_x"] and [item["label"].item() for item in dataset] == [0, 0]


@pytest.mark.parametrize("place", ["", "results/run"])
def test_own_results_are_no_images(place, tmp_path):
    """eval.py's results in the folder of images, or below it; a folder that only has such names is read."""
    for name in ("a.png", "val/b.png", "pred/c.png", "elsewhere/records/d.png"):
        save(tmp_path / name, PIXELS)
    run = tmp_path / place
    (run / "records/folder_test").mkdir(parents=True)
    (run / "records/folder_test/settings.json").write_text("{}")
    save(run / "records/folder_test/pictures/a.jpg", PIXELS)
    for kind in ("pred", "rgb", "compose"):
        save(run / f"test/{kind}/a.png", PIXELS)
    save(run / "camera/rgb/e.png", PIXELS)
    (run / "self.png").symlink_to("self.png")
    dataset = folder(tmp_path)
    inside = f"{place}/".lstrip("/")
    expected = ["a", f"{inside}camera/rgb/e", "elsewhere/records/d", "pred/c", "val/b", f"{inside}self"]
    assert sorted(names(dataset)) == sorted(expected)
    assert "2 results of eval.py" in dataset.notes[0]


def test_the_folder_of_centroids_is_not_worth_a_word(tmp_path):
    write_camvid(tmp_path, [[[3]]])
    (tmp_path / "train/.cache").mkdir()
    assert not DATASETS["camvid"](tmp_path, "train", None).notes
    assert walk(tmp_path / "nowhere").files == []


ODD = os.fsdecode(b"M\xfcnchen.png")


def test_names_that_no_result_can_have(tmp_path, caplog):
    for name in (ODD, "n" * 250 + ".png", "x.png/y.png", "x.png/z.png"):
        save(tmp_path / name, PIXELS)
    dataset = folder(tmp_path)
    for name in names(dataset):
        name.encode()
        assert max(map(len, name.split("/"))) < 200
    assert sorted(name.partition("~")[0] for name in names(dataset)) == [
        "M_nchen",
        "n" * 171,
        "x_png/y",
        "x_png/z",
    ]
    assert r"M\xfcnchen as M_nchen~" in caplog.text and "and 1 more" in caplog.text
    assert all(item["image"].shape == (3, 2, 3) for item in dataset)
    (tmp_path / ODD).write_bytes(b"")
    assert r"image " + str(tmp_path) + r"/M\xfcnchen.png cannot be read" in folder(tmp_path)[0]["unreadable"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)  # with a byte order mark: -sig, utf-16 and utf-32
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lists_of_any_editor(encoding, newline, tmp_path):
    for name in ("a/ü x.png", "b.png"):
        save(tmp_path / name, PIXELS)
    listed = tmp_path / "list.txt"
    listed.write_bytes(newline.join(["a/ü x.png", "", "b.png", "b.png", r"a\ü x.png"]).encode(encoding))
    assert names(folder(listed)) == ["a/ü x", "b"]


def test_a_list_that_names_a_file_through_a_link(tmp_path):
    """The first of its names is used; the number of the others is said."""
    save(tmp_path / "real/a.png", PIXELS)
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "b.png").symlink_to("real/a.png")
    listed = tmp_path / "list.txt"
    listed.write_text("linked/a.png\nreal/a.png\nb.png\nreal/../real/a.png\n")
    dataset = folder(listed)
    assert names(dataset) == ["linked/a"] and "names 3 files again" in dataset.notes[0]


def test_a_list_of_names_with_odd_line_separators(tmp_path):
    """Only line ends of editors end a line."""
    odd = ["a\x0b.png", "b\x85.png", "c\u2028.png", "d\x1c.png"]
    for name in odd:
        save(tmp_path / name, PIXELS)
    (tmp_path / "list.txt").write_text("\n".join(odd))
    assert [sample.image.name for sample in folder(tmp_path / "list.txt").samples] == odd


def test_images_that_differ_only_in_their_suffix(tmp_path):
    """a.jpg.png is a third one, which would have the name of a.jpg."""
    for name in ("a.png", "a.jpg", "a.jpg.png", "b.png", "sub/a.png"):
        save(tmp_path / name, PIXELS)
    dataset = folder(tmp_path)
    assert names(dataset) == ["a.jpg", "a.jpg.png", "a.png", "b", "sub/a"]
    assert (
        "keep the suffix of images that differ in nothing else: a.jpg, a.jpg.png, a.png" in dataset.notes[0]
    )
    (tmp_path / "list.txt").write_text("a.png\na.jpg\n")
    assert names(folder(tmp_path / "list.txt")) == ["a.png", "a.jpg"]


def test_a_list_with_comments(tmp_path):
    """A line that begins like one may be a file."""
    for name in ("a.png", "#1.png"):
        save(tmp_path / name, PIXELS)
    (tmp_path / "list.txt").write_text("# night images\n#1.png\n\n#a.png\na.png\n")
    assert [sample.image.name for sample in folder(tmp_path / "list.txt").samples] == ["#1.png", "a.png"]
    (tmp_path / "list.txt").write_text("# none\n")
    with pytest.raises(MissingFile, match="names no image"):
        folder(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\4\0\0\0\3\x08\2\0\0\0",
            "is not a text file: name a folder, an image, or",
        ),
        (b"PK\3\4" + bytes(range(256)), "is not a text file"),
        (b"a.png\0b.png\0", "is not a text file"),
        (b"x" * 5000, r"relative paths begin at the folder of the list\): \S+xxx \.\.\.$"),
    ],
    ids=["png", "zip", "find -print0", "long"],
)
def test_what_is_no_list(content, message, tmp_path):
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        folder(tmp_path / "list")
    assert len(str(error.value)) < 600


def test_a_list_of_names_that_are_not_utf_8(tmp_path):
    save(tmp_path / ODD, PIXELS)
    (tmp_path / "list.txt").write_bytes(b"M\xfcnchen.png\n")
    assert names(folder(tmp_path / "list.txt"))[0].startswith("M_nchen~")


def test_a_list_that_leads_out_of_its_folder(tmp_path):
    """Names are the whole paths then; nothing in them leads out of a folder of results."""
    for name in ("photos/cat.png", "lists/dog.png"):
        save(tmp_path / name, PIXELS)
    listed = tmp_path / "lists/list.txt"
    listed.write_text(f"../photos/cat.png\n{tmp_path}/lists/dog.png\n../lists/../lists/dog.png\n")
    assert names(folder(listed)) == [f"{tmp_path}/photos/cat".lstrip("/"), "dog"]
    listed.write_text("nowhere.png\n" * 2 + "\n".join(f"{n}.png" for n in range(9)))
    with pytest.raises(MissingFile, match=r"10 images .*nowhere.png.* and 7 more$"):
        folder(listed)


def test_a_list_of_paths_that_begin_with_two_slashes(tmp_path):
    """As `find /$DIR` prints where DIR is absolute."""
    for name in ("photos/cat.png", "lists/dog.png"):
        save(tmp_path / name, PIXELS)
    listed = tmp_path / "lists/list.txt"
    listed.write_text(f"/{tmp_path}/photos/cat.png\n{tmp_path}/photos/cat.png\n/{tmp_path}/lists/dog.png\n")
    assert names(folder(listed)) == [f"{tmp_path}/photos/cat".lstrip("/"), "dog"]


def test_one_image_as_the_root(tmp_path):
    save(tmp_path / "cat.PNG", PIXELS)
    assert names(folder(tmp_path / "cat.PNG")) == ["cat"]


def test_labelled_links_to_nothing(tmp_path):
    """Each is named where it is read, also by what only asks for its size and time."""
    write_camvid(tmp_path, [[[3]], [[3]]])
    label = tmp_path / "trainannot/001.png"
    label.unlink()
    label.symlink_to("nowhere")
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    readers = [
        lambda: dataset[1],
        lambda: CachedImages(dataset, tmp_path / "cache")[1],
        lambda: ClassUniform(dataset, 0.5, 16),
    ]
    for read in readers:
        with pytest.raises(MissingFile, match=f"{label} is not there"):
            read()
    for kind in ("images", "labels"):
        (tmp_path / f"{kind}/train").mkdir(parents=True)
        (tmp_path / f"{kind}/train/00001.png").symlink_to("nowhere")
    with pytest.raises(MissingFile, match="images/train/00001.png is not there"):
        DATASETS["gtav"](tmp_path, "train", no_transform)[0]


def test_names_that_are_not_utf_8_can_be_cached(tmp_path):
    save(tmp_path / "train" / ODD, np.full((1, 1, 3), 7))
    save(tmp_path / "trainannot" / ODD, [[3]])
    dataset = DATASETS["camvid"](tmp_path, "train", no_transform)
    assert CachedImages(dataset, tmp_path / "cache").read_label(dataset.samples[0].label).tolist() == [[0]]
    assert len(ClassUniform(dataset, 0.5, 16).centroids) == 1
