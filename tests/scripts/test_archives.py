"""Archives: each opened once, of all kinds; damage and what Python does not read."""

import io
import re
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
        with pytest.raises(MissingFile, match=rf"not read: \S+{name}: extract it"):
            prepare_data.arrange("camvid", src, tmp_path / "root")
    packed("b.zip", KINDS["a.zip"])
    prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "root")
    out = capsys.readouterr().out
    assert "4 files placed" in out and f"not read: {tmp_path}/src/{name}: extract it" in out


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("a.zip.001", b"PK", "join the parts"),
        ("a.tar.gz.aa", b"\x1f\x8b", "join the parts"),
        ("a.7z.001", b"7z", "join the parts"),
        ("a.tgz.part-aa", b"", "join the parts"),
        ("a.z01", b"PK", "extract it with another"),
        ("a.r00", b"", "extract it with another"),
        ("a.zip", b"Rar!\x1a\7", "extract it with another"),
        ("a.tar.gz", b"7z\xbc\xaf\x27\x1c", "extract it with another"),
        ("a.tar", b"(\xb5/\xfd", "extract it with another"),
        ("a.zip", b"PK\5\6\2\0\2\0" + bytes(14), "extract it with another"),  # the last of three parts
    ],
)
def test_parts_and_wrong_names(name, content, advice, packed, tmp_path, capsys):
    """They are named with what to do, and do not keep the sound archive beside them from being read."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / name).write_bytes(content)
    with pytest.raises(MissingFile, match=rf"not read: \S+{re.escape(name)}: {advice}"):
        prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "root")
    prepare_data.arrange("camvid", packed("b.zip", KINDS["a.zip"]), tmp_path / "root")
    out = capsys.readouterr().out
    assert "4 files placed" in out and f"not read: {tmp_path}/src/{name}: {advice}" in out


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.zip", "a.tar"),
        ("a.zip", "a.tar.gz"),
        ("a.tar.gz", "a.tar"),
        ("a.tar", "a.zip"),
        ("a.tgz", "a.tar.xz"),
        ("a.zip?download=1", "a.zip"),
        ("a.tar.gz.1", "a.tar.gz"),
        ("a.zip (1)", "a.zip"),
    ],
)
def test_the_content_says_what_an_archive_is(name, kind, packed, tmp_path, capsys):
    prepare_data.arrange("camvid", packed(name, KINDS[kind]), tmp_path / "root")
    assert "4 files placed" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"\n<!DOCTYPE html><p>Log in", b'{"error": 403}'])
def test_a_web_page_is_no_archive(content, tmp_path):
    for name in KINDS:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"archive \S+{name} is a web page, .* in a browser$"):
            prepare_data.arrange("camvid", tmp_path / name, tmp_path / "root")


def test_what_lies_beside_archives_is_no_archive(packed, tmp_path, capsys):
    src = packed("a.zip", KINDS["a.zip"])
    for name in ("a.zip.sha256", "a.zip.aria2", "a.tar.gz.asc", "a.zip.txt"):
        (src / name).write_bytes(b"0123")
    prepare_data.arrange("camvid", src, tmp_path / "root")
    assert "not read" not in capsys.readouterr().out


def test_an_archive_in_an_archive(packed, tmp_path, capsys):
    inner = packed("inner.tar.gz", KINDS["a.tar.gz"]) / "inner.tar.gz"
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "data/inner.tar.gz")
    expected = r"not read: \S+outer.zip:data/inner.tar.gz: it is inside another archive: extract the outer"
    with pytest.raises(MissingFile, match=expected):
        prepare_data.arrange("camvid", tmp_path / "outer.zip", tmp_path / "root")


def test_names_that_windows_wrote(tmp_path, capsys):
    """Backslashes are folders; `..` leads out of none."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (
            "CamVid\\train\\1.png",
            "CamVid\\trainannot\\1.png",
            "CamVid\\train\\",
            "..\\train\\2.png",
        ):
            archive.writestr(name, b"x")
    prepare_data.arrange("camvid", tmp_path / "a.zip", tmp_path / "root")
    assert sorted(p.name for p in (tmp_path / "root").rglob("*.png")) == ["1.png", "1.png"]
    assert "0 others not wanted" in capsys.readouterr().out


def test_two_members_for_one_place(tmp_path, capsys):
    """Equal ones are said to be there twice; different ones, of which one is the wrong one, are an error."""
    (tmp_path / "src").mkdir()
    for name, member in (("a.zip", "A/train/1.png"), ("b.zip", "B/train/1.PNG")):
        with zipfile.ZipFile(tmp_path / "src" / name, "w") as archive:
            archive.writestr(member, name[:1] * 3)
    prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "root")
    out = capsys.readouterr().out
    assert "1 files are there twice, such as" in out and "b.zip:B/train/1.PNG, instead of which" in out
    assert (tmp_path / "root/train/1.png").read_bytes() == b"aaa"
    with zipfile.ZipFile(tmp_path / "src/c.zip", "w") as archive:
        archive.writestr("train/1.png", "cccc")
    different = r"a.zip:A/train/1.png \(3 bytes\) and \S+c.zip:train/1.png \(4 bytes\) are different files"
    with pytest.raises(UserError, match=different):
        prepare_data.arrange("camvid", tmp_path / "src", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_folders_that_cannot_be_arranged_in(tmp_path):
    src = write_camvid(tmp_path / "src", [[[3]]])
    (tmp_path / "file").touch()
    for dst, message in (("file", "is a file"), ("src", "in --dst"), (".", "in --dst")):
        with pytest.raises(UserError, match=message):
            prepare_data.arrange("camvid", src, tmp_path / dst)


def test_archives_may_lie_where_their_files_go(packed, tmp_path, capsys):
    prepare_data.arrange("camvid", packed("a.zip", KINDS["a.zip"]), tmp_path)
    assert "4 files placed" in capsys.readouterr().out


def test_links_lead_to_the_files_themselves(tmp_path):
    """Not to the links of an earlier call in the same folder, which may be deleted."""
    src = write_camvid(tmp_path / "src", [[[3]]])
    prepare_data.arrange("camvid", src, src / "first")
    prepare_data.arrange("camvid", src, tmp_path / "second")
    assert (tmp_path / "second/train/000.png").readlink() == src / "train/000.png"


def test_links_to_one_file_are_one_file(tmp_path, capsys):
    src = write_camvid(tmp_path / "src", [[[3]]])
    (src / "again").mkdir()
    (src / "again" / "train").symlink_to(src / "train")
    prepare_data.arrange("camvid", src, tmp_path / "root")
    assert "twice" not in capsys.readouterr().out


@pytest.mark.parametrize("name", KINDS)
def test_damage(name, packed, tmp_path):
    """A part of an archive, or another file of its name, is named; half-written files do not stay."""
    path = packed(name, KINDS[name]) / name
    data = path.read_bytes()
    for content in (data[: len(data) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"{name}\S* cannot be read: .*; download it again|web page|nothing of camvid"
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
