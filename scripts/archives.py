"""Archives of downloads, each opened once and read in place: zip, tar, tar.gz, tar.bz2, tar.xz.

The content of a file says which of them it is, because names are often wrong.
"""

import lzma
import posixpath
import re
import struct
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

READ = r"zip|tar|tar\.gz|tgz|tar\.bz2|tbz2?|tar\.xz|txz"  # ends of names
OTHERS = r"rar|7z|tar\.zst|tzst|zst|zipx|z\d\d|r\d\d"  # that Python does not read
# As of "a.zip.001" and "a.tgz.part-aa".
PARTS = re.compile(rf"(?i)\.({READ}|{OTHERS})\.(\d{{2,3}}|(part)?[-_.]?a[a-z])$")
CALLED = re.compile(rf"(?i)\.({READ}|{OTHERS})(\W.{{0,40}})?$")  # also "a.zip.1" and "a.zip?download=1"
SIGNATURES = (b"Rar!", b"7z\xbc\xaf", b"(\xb5/\xfd")  # of rar, 7z and Zstandard
METHODS = {9: "deflate64", 10: "DCL implode", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
CHUNK = 2**20  # bytes
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
EXTRACT = "extract it with another program, such as 7z or unar, and name the folder of its files"
JOIN = "join the parts of an archive first: cat NAME.zip.* > NAME.zip, or extract the first one with 7z"
OUTER = "it is inside another archive: extract the outer one and name its folder"


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
            opened = zipfile.ZipFile(file) if is_zip(file) else tarfile.open(file)
            self.opened: zipfile.ZipFile | tarfile.TarFile = opened
            if isinstance(opened, tarfile.TarFile):
                found = members_of(opened)
                opened.fileobj.seek(opened.offset)  # type: ignore[union-attr]
                if not opened.fileobj.read(1):  # type: ignore[union-attr]
                    opened.close()
                    raise EOFError("it is not complete")  # tarfile takes it for the end
            else:
                found = [
                    Member(info.filename.replace("\\", "/"), info.file_size, info)  # as Windows writes them
                    for info in opened.infolist()
                ]
                found = [member for member in found if not member.name.endswith("/")]
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
        name = f"archive {printable(file)}"
        if member:
            name = f"archive member {printable(file)}:{printable(member)}"
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{name} cannot be read: {error.strerror}") from error
        raise UserError(f"{name} cannot be read: {reason}; download it again") from error


def is_zip(file: Path) -> bool:
    """Return whether a file is a zip archive, whatever it is called; UserError for a web page."""
    with file.open("rb") as opened:
        head = opened.read(256)
    if head.lstrip()[:1] in (b"<", b"{"):
        raise UserError(
            f"archive {printable(file)} is a web page, as sites send where a login or a licence is missing; "
            "download it again in a browser"
        )
    return head.startswith(b"PK") or (file.suffix.lower() == ".zip" and zipfile.is_zipfile(file))


def is_called_archive(name: str) -> bool:
    """Return whether a name is that of an archive, of any kind."""
    return bool(CALLED.search(name))


def not_read(file: Path) -> str | None:
    """Return what to do about an archive that Python does not read; None for one that it reads.

    `file` is called like an archive. Return "" if it is none.
    """
    if PARTS.search(file.name):
        return JOIN
    try:
        with file.open("rb") as opened:
            head = opened.read(4)
        many = head[:2] == b"PK" and is_last_of_many(file)
    except OSError:  # said where it is opened
        return None
    if many or head in SIGNATURES or re.search(rf"(?i)\.({OTHERS})$", file.name):
        return EXTRACT
    is_one = re.search(rf"(?i)\.({READ})$", file.name) or head[:2] == b"PK" or tarfile.is_tarfile(file)
    return None if is_one else ""


def is_last_of_many(file: Path) -> bool:
    """Return whether a zip archive says at its end that it has parts before it: .z01, .z02, ..."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 2**16))
        end = opened.read()
    place = end.rfind(b"PK\5\6")
    return place >= 0 and struct.unpack_from("<H", end[place:].ljust(22), 4)[0] not in (0, 0xFFFF)


def is_data(name: str) -> bool:
    """Return whether a member's path has no part that is hidden, of an operating system or leads out."""
    return not any(
        part in SYSTEM_FOLDERS or part.startswith(".") for part in name.removeprefix("./").split("/")
    )
