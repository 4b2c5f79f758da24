"""Archives: each opened once, of all kinds; damage and what Python does not read."""

import io
import tarfile
import zipfile

import numpy as np
import pytest

from datasets import DATASETS
from scripts import prepare_data
from scripts.archives import Archive
from tests.helpers import no_transform, write_camvid
from utils.errors import MissingFile, UserError

JUNK = ("__MACOSX/train/._000.png", "train/._000.png", "../train/001.png", ".git/train/002.png")


def add(archive, name, content):
    if isinstance(archive, zipfile.ZipFile):
        archive.writestr(name, content)
    else:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def packed(tmp_path):
    """Return a function that packs two CamVid images and junk into tmp_path/src/NAME."""
    root = write_camvid(tmp_path / "files", [[[3]]])
    write_camvid(root, [[[8]]], "val")

    def pack(name, opened):
        (tmp_path / "src").mkdir(exist_ok=True)
        with opened(tmp_path / "src" / name) as archive:
            for path in sorted(root.rglob("*.png")):
                add(archive, f"SegNet/CamVid/{path.relative_to(root)}", path.read_bytes())
            for name in JUNK:
                add(archive, f"SegNet/CamVid/{name}", b"junk")
        return tmp_path / "src"

    return pack


KINDS = {
    "a.zip": lambda path: zipfile.ZipFile(path, "w"),
    "a.ZIP": lambda path: zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA),
    "a.tar": lambda path: tarfile.open(path, "w"),
    "a.tar.gz": lambda path: tarfile.open(path, "w:gz"),
    "a.TGZ": lambda path: tarfile.open(path, "w:gz"),
    "a.tar.xz": lambda path: tarfile.open(path, "w:xz"),
    "a.tar.bz2": lambda path: tarfile.open(path, "w:bz2"),
}


def counting(function, calls):
    def count(*args, **more):
        calls.append(1)
        return function(*args, **more)

    return count


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name, packed, tmp_path, capsys, monkeypatch):
    src, opened = packed(name, KINDS[name]), []
    for owner, function in ((zipfile.ZipFile, "__init__"), (tarfile, "open")):
        monkeypatch.setattr(owner, function, counting(getattr(owner, function), opened))
    dst = tmp_path / "root"
    prepare_data.main(["camvid", "--src", str(src), "--dst", str(dst)])
    assert len(opened) == 1
    assert "4 files placed" in capsys.readouterr().out
    labels = [DATASETS["camvid"](dst, split, no_transform)[0]["label"].item() for split in ("train", "val")]
    assert labels == [0, 13]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4 + 4 + 1
    prepare_data.main(["camvid", "--src", str(src / name), "--dst", str(dst)])
    assert "0 files placed" in capsys.readouterr().out


def with_method(path, method, flags=0):
    """Change the compression method and the flags in all headers of a zip archive."""
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + place] |= flags
            data[start + place + 2 : start + place + 4] = method.to_bytes(2, "little")
            start = data.find(signature, start + 4)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "method, flags, message",
    [
        (9, 0, "is packed by deflate64"),
        (0, 1, "is encrypted"),
        (99, 1, "is encrypted"),
        (77, 0, "is packed by method 77"),
    ],
)
def test_what_python_does_not_read(method, flags, message, packed, tmp_path):
    src = packed("a.zip", KINDS["a.zip"])
    with_method(src / "a.zip", method, flags)
    with pytest.raises(
        UserError, match=rf"a.zip:SegNet/\S+ {message}, which .* extract it with another"
    ) as error:
        prepare_data.arrange("camvid", src, tmp_path / "root")
    assert "\n" not in str(error.value) and not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", ["a.rar", "a.7Z", "a.tar.zst"])
def test_other_archives(name, packed, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / name).write_bytes(b"Rar!")
    for src in (tmp_path / "src", tmp_path / "src" / name):
        with pytest.raises(MissingFile, match=rf"Python does not read \S+{name}: extract it"):
            prepare_data.arrange("camvid", src, tmp_path / "root")
    packed("b.zip", KINDS["a.zip"])
    prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "root")
    out = capsys.readouterr().out
    assert "4 files placed" in out and f"not read: {tmp_path}/src/{name}; extract it" in out


@pytest.mark.parametrize("name", KINDS)
def test_damage(name, packed, tmp_path):
    """A part of an archive, or another file of its name, is named; half-written files do not stay."""
    path = packed(name, KINDS[name]) / name
    data = path.read_bytes()
    for content in (data[: len(data) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"{name}\S* cannot be read: .*; download it again|nothing of camvid"
        ):
            prepare_data.arrange("camvid", path, tmp_path / "root")
    assert not list((tmp_path / "root").rglob(".*"))


def test_a_disk_without_room_is_not_a_damaged_archive(packed, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    src = packed("a.zip", KINDS["a.zip"])
    monkeypatch.setattr(Archive, "extract", full)
    with pytest.raises(UserError, match=r"root/\S+.png cannot be written: No space left on device$"):
        prepare_data.arrange("camvid", src, tmp_path / "root")


def test_junk_in_a_folder_is_not_placed(tmp_path):
    src = write_camvid(tmp_path / "src", [[[3]]])
    for name in ("__MACOSX/train/._000.png", "train/._000.png", "trainannot/.x.png"):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_bytes(b"junk")
    prepare_data.arrange("camvid", src, tmp_path / "root")
    assert len(list((tmp_path / "root").rglob("*.png"))) == 2


def test_suffixes_in_any_case(tmp_path):
    source = write_camvid(tmp_path / "source", [[[3]]])
    (tmp_path / "src/train").mkdir(parents=True)
    (tmp_path / "src/trainannot").mkdir()
    (source / "train/000.png").rename(tmp_path / "src/train/000.PNG")
    (source / "trainannot/000.png").rename(tmp_path / "src/trainannot/000.Png")
    prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "root")
    assert DATASETS["camvid"](tmp_path / "root", "train", no_transform)[0]["label"].tolist() == [[0]]


def test_many_members_take_little_time(tmp_path, monkeypatch):
    """The archive's list is read once for 4000 members."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(2000):
            archive.writestr(f"train/{number}.png", b"x")
            archive.writestr(f"trainannot/{number}.png", b"x")
    read, original = [], zipfile.ZipFile._RealGetContents
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda self: read.append(1) or original(self))
    prepare_data.arrange("camvid", tmp_path / "a.zip", tmp_path / "root")
    assert len(read) == 1 and len(list((tmp_path / "root").rglob("*.png"))) == 4000
    assert np.all([path.stat().st_size == 1 for path in (tmp_path / "root/train").iterdir()])


def test_links_in_a_tar(tmp_path):
    """Hard links, as GNU tar stores the second name of a file, and links in it are files; others are not."""
    names = ("a/b/one.png", "a/b/two.png", "a/three.png", "a/four.png", "a/five.png")
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        add(archive, names[0], b"pixels")
        kinds = (tarfile.LNKTYPE, names[0]), (tarfile.SYMTYPE, "b/two.png"), (tarfile.SYMTYPE, "/etc/passwd")
        for name, (kind, target) in zip(names[1:], [*kinds, (tarfile.SYMTYPE, "../../x")], strict=True):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    archive = Archive(tmp_path / "links.tar")
    assert [(member.name, member.size) for member in archive.members] == [(name, 6) for name in names[:3]]
    archive.extract(archive.members[2], tmp_path / "three.png")
    archive.close()
    assert (tmp_path / "three.png").read_bytes() == b"pixels"
