"""Archives of downloads, each opened once and read in place: zip, tar, tar.gz, tar.bz2, tar.xz."""

import lzma
import posixpath
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from datasets.walk import SYSTEM_FOLDERS
from utils.errors import UserError
from utils.files import printable

ZIP = (".zip",)
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
OTHERS = (".rar", ".7z", ".tar.zst", ".tzst", ".zst", ".zipx")  # that Python does not read
METHODS = {9: "deflate64", 10: "DCL implode", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
CHUNK = 2**20  # bytes
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
EXTRACT = "extract it with another program, such as 7z or unar, and name the folder of its files"


class Member(NamedTuple):
    name: str
    size: int  # bytes
    info: zipfile.ZipInfo | tarfile.TarInfo


class Archive:
    """An archive that is open from its first use on. `members` are its files, in the order of the archive.

    Hidden files, those of operating systems and names that lead out of a folder are no members. Raises
    UserError for an archive, or a member, that is damaged or that Python cannot read.
    """

    def __init__(self, file: Path):
        self.file = file
        with damage_names(file):
            opened = tarfile.open(file) if is_tar(file) else zipfile.ZipFile(file)
            self.opened: zipfile.ZipFile | tarfile.TarFile = opened
            if isinstance(opened, tarfile.TarFile):
                found = members_of(opened)
                opened.fileobj.seek(opened.offset)  # type: ignore[union-attr]
                if not opened.fileobj.read(1):  # type: ignore[union-attr]
                    raise EOFError("it is not complete")  # tarfile takes it for the end
            else:
                infos = [info for info in opened.infolist() if not info.is_dir()]
                found = [Member(info.filename, info.file_size, info) for info in infos]
        self.members = [member for member in found if is_data(member.name)]

    def check(self, members: list[Member]) -> None:
        """Raise UserError if any of `members` is stored in a way that Python cannot read."""
        if isinstance(self.opened, tarfile.TarFile):
            return
        ways = {(m.info.compress_type, m.info.flag_bits & 1): m for m in members}  # type: ignore[union-attr]
        for (method, encrypted), member in ways.items():
            reason = (
                "is encrypted" if encrypted else f"is packed by {METHODS.get(method, f'method {method}')}"
            )
            try:
                with self.opened.open(member.info):  # type: ignore[arg-type]
                    pass
            except (NotImplementedError, RuntimeError) as error:
                raise UserError(
                    f"{printable(self.file)}:{printable(member.name)} {reason}, which Python does not read: "
                    f"{EXTRACT}"
                ) from error
            except DAMAGE:  # said where it is extracted
                pass

    def extract(self, member: Member, target: Path) -> None:
        """Write a member to the new file `target`. OSError where that cannot be written."""
        with damage_names(self.file, member.name):
            if isinstance(self.opened, tarfile.TarFile):
                content = self.opened.extractfile(member.info)  # type: ignore[arg-type]
                assert content is not None
            else:
                content = self.opened.open(member.info)  # type: ignore[arg-type]
        with content, target.open("xb") as file:
            while True:
                with damage_names(self.file, member.name):
                    part = content.read(CHUNK)
                if not part:
                    return
                file.write(part)

    def close(self) -> None:
        """Close the file."""
        self.opened.close()


def members_of(tar: tarfile.TarFile) -> list[Member]:
    """Return the files of a tar archive, and links to files in it with the size of what they lead to."""
    infos = list(tar)
    files = {info.name: info for info in infos if info.isfile()}
    for info in infos:  # a link comes after what it leads to, or is left out
        target = info.linkname
        if info.issym():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), target))
        if (info.islnk() or info.issym()) and target in files:
            files[info.name] = files[target]
    return [Member(name, info.size, info) for name, info in files.items()]


@contextmanager
def damage_names(file: Path, member: str = "") -> Iterator[None]:
    """Turn the errors of reading a damaged archive, or a member of it, into a UserError that names it."""
    try:
        yield
    except DAMAGE as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        name = (
            f"archive member {printable(file)}:{printable(member)}"
            if member
            else f"archive {printable(file)}"
        )
        raise UserError(f"{name} cannot be read: {reason}; download it again") from error


def is_tar(file: Path) -> bool:
    """Return whether a file is called like a tar archive."""
    return file.name.lower().endswith(TAR)


def is_archive(file: Path) -> bool:
    """Return whether a file is called like an archive that can be read."""
    return file.name.lower().endswith(ZIP + TAR)


def is_other_archive(file: Path | str) -> bool:
    """Return whether a file is called like an archive that cannot be read."""
    return str(file).lower().endswith(OTHERS)


def is_data(name: str) -> bool:
    """Return whether a member's path has no part that is hidden, of an operating system or leads out."""
    return not any(
        part in SYSTEM_FOLDERS or part.startswith(".") for part in name.removeprefix("./").split("/")
    )
