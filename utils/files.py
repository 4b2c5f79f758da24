"""Safe names, and files written whole or not at all, flushed to disk, with a hash where that helps."""

import errno
import fcntl
import hashlib
import os
import re
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np

from utils.errors import DamagedFile, DiskFull, MissingFile, UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_FOLDER_FLUSH = {errno.EINVAL, errno.ENOTSUP}  # of file systems that flush folders by themselves
HASH_MARK = b"robustnet sha256 "  # at the end of a hashed file, before the digits of the hash
HASH_DIGITS = 64

MAX_PART, MAX_NAME = 180, 1000  # bytes of one part of a safe name, and of all parts


def safe_name(name: str) -> str:
    """Return the relative path `name`, with or without a suffix, as one that a file in any folder can have.

    Most names stay as they are. These parts are changed: those that lead out of a folder (a leading slash,
    `..`), hidden ones, those that are not UTF-8, that hold control characters or that are too long, and
    folders called like a picture (`x.png/y`), where the picture `x.png` may have to be written. A changed
    name ends in `~` and a hash of `name`, then its suffix, so that different names stay different. A safe
    name is its own safe name.
    """
    *folders, last = name.split("/")
    parts = [_safe_part(part, MAX_PART) for part in folders if part not in ("", ".")]
    parts = [re.sub(r"(?i)\.(png|jpe?g)$", r"_\1", part) for part in parts]
    stem, suffix = re.fullmatch(r"(?s)(.+?|)(\.[A-Za-z0-9]{1,5})?", last).groups("")  # type: ignore[union-attr]
    digest = "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    safe = "/".join([*parts, _safe_part(stem, MAX_PART) + suffix])
    if safe == name and len(name.encode()) <= MAX_NAME:
        return name
    while parts and len("/".join(parts).encode()) > MAX_NAME - MAX_PART - len(suffix) - 1:
        del parts[0]
    return "/".join([*parts, _safe_part(stem, MAX_PART - len(digest)) + digest + suffix])


def _safe_part(part: str, limit: int) -> str:
    """Return a part of a path without what makes it unsafe, at most `limit` bytes. Parts may become equal."""
    part = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "_", part)
    part = re.sub(r"^\.+", "_", part) or "_"
    return part.encode()[:limit].decode(errors="ignore")


def below(folder: Path, name: str, suffix: str = "") -> Path:
    """Return the path below `folder` where what belongs to `name` is written: its safe name and `suffix`.

    Raises UserError where a link below `folder` would lead the writing out of it.
    """
    path = folder / (safe_name(name) + suffix)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path} is a link out of {folder}, so it is not written: remove the link")
    return path


def named_path(text: str) -> tuple[str, str]:
    """Split NAME=PATH, or a PATH without a name, into the name, "" for none, and the path.

    Both may hold `=`: the path is the longest one that exists, or what comes after the first `=`.
    """
    starts = [0, *(match.end() for match in re.finditer("=", text))]
    start = next((start for start in starts if os.path.exists(text[start:])), starts[:2][-1])
    return text[: max(0, start - 1)], text[start:]


def printable(path: str | Path) -> str:
    """Return a path as text that can be printed and written on one line: odd bytes become \\xNN."""
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turn the system's error that there is no room for the file at `path` into DiskFull, which names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM and not re.search("requested and .* written", str(error)):  # of NumPy
            raise
        raise DiskFull(f"disk full: {path} cannot be written, {free_room(path.parent)}") from error


@contextmanager
def replacing(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield the path of an empty file in the folder of `path`; at the end that file replaces `path`.

    Other processes see the old file or the whole new one, also after a power cut: file and folder are flushed
    to disk before and after the replacement, unless not `flushed`, which is much faster for many files whose
    damage is noticed. The folder is made. After an error the old file is unchanged.
    Raises DiskFull when there is no room, and MissingFile if someone removes the folder meanwhile.
    """
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, lock = _locked_partial(path.parent)
        try:
            yield temporary
            if flushed:
                flush(temporary)
                flush(path.parent)
            os.replace(temporary, path)
            if flushed:
                flush(path.parent)
        except FileNotFoundError as error:
            if temporary.exists():
                raise
            raise MissingFile(f"{path.parent} was removed while {path.name} was written to it") from error
        finally:
            temporary.unlink(missing_ok=True)
            os.close(lock)


def _locked_partial(folder: Path) -> tuple[Path, int]:
    """Return a new file in `folder` and the open descriptor that holds its lock while this process lives."""
    while True:
        path = folder / f".{uuid4().hex}.partial"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return path, descriptor
        if path.exists():
            return path, descriptor
        os.close(descriptor)  # another process removed the file before it was locked


def remove_stale(folder: Path, seconds: float = 0) -> None:
    """Remove the unfinished files of dead processes from `folder`; they are at least `seconds` old.

    A file is in use while its process holds its lock. Without locks, files of less than a day are in use.
    """
    for path in folder.glob(".*.partial"):
        try:
            age = time.time() - path.stat().st_mtime
            descriptor = os.open(path, os.O_RDWR)
        except OSError:  # finished or removed in the meantime
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stale = age >= seconds
        except BlockingIOError:
            stale = False
        except OSError:
            stale = age > 86400
        try:
            if stale:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def flush(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_FOLDER_FLUSH):
            raise
    finally:
        os.close(descriptor)


def free_room(folder: Path) -> str:
    """Return in words how much room the disk of `folder` has, and the limit of a file's size, if any."""
    room = f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB are free"
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return room
    return f"{room}, but ulimit -f allows no file above {limit / 2**20:.1f} MiB"


class HashedWriter:
    """Writes to an open binary file and hashes what is written; `finish` adds the hash.

    An OSError is kept until `finish`, and later writes do nothing, because torch.save passes no error on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write and hash `data`, which is anything with bytes; return their number."""
        view = memoryview(data).cast("B")
        self.digest.update(view)
        if self.error is None:
            try:
                self.file.write(view)
            except OSError as error:
                self.error = error
        return len(view)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is complete."""

    def finish(self) -> None:
        """Add the mark and the hash of all before; raise the error of an earlier write."""
        self.write(HASH_MARK)
        if self.error is None:
            self.file.write(self.digest.hexdigest().encode())
            self.file.flush()
        else:
            raise self.error


def hash_fits(file: BinaryIO) -> bool | None:
    """Return whether the content of an open file fits the hash at its end, None if it has none; rewind it."""
    size = file.seek(0, os.SEEK_END)
    start = size - len(HASH_MARK) - HASH_DIGITS
    file.seek(max(0, start))
    note = file.read()
    file.seek(0)
    if start < 0 or not note.startswith(HASH_MARK):
        return None
    digest = digest_of(file, size - HASH_DIGITS)
    file.seek(0)
    return digest.encode() == note[len(HASH_MARK) :]


def digest_of(file: BinaryIO, size: int) -> str:
    """Return the hash of the next `size` bytes of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(2**20, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, with a hash at its end, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = HashedWriter(file)
        np.lib.format.write_array(writer, np.asanyarray(array), allow_pickle=False)  # type: ignore[arg-type]
        writer.finish()


def read_text(path: Path) -> str:
    """Return a text file that a user wrote with any editor: UTF-8, 16 or 32, with or without byte order mark.

    Other bytes come out as Python's file names have them. Raises MissingFile if there is no file.
    """
    if not path.is_file():
        raise MissingFile(f"no file at {printable(path)}")
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return data.decode("utf-32", "replace")
    if data[:4].count(0) == 3:
        return data.decode("utf-32-le" if data[0] else "utf-32-be", "replace")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    for first, name in enumerate(("utf-16-be", "utf-16-le")):
        if data[first:64:2].count(0) > len(data[:64]) / 4:  # of Latin letters
            return data.decode(name, "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def read_array(path: Path) -> np.ndarray:
    """Return what `write_array` wrote; DamagedFile where the content does not fit its hash.

    A file without a hash, of an earlier version, is only checked for its length.
    """
    with path.open("rb") as file:
        fits = hash_fits(file)
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # NumPy raises many kinds
            raise DamagedFile(f"{path} is damaged: {error}") from error
        if not (fits or (fits is None and not file.read(1))):
            raise DamagedFile(f"{path} is damaged: its content does not fit its hash")
    return array


def sha256(path: str | Path, what: str = "file") -> str:
    """Return the hash of a file's content, in hexadecimal; MissingFile naming `what` if there is none."""
    if not os.path.isfile(path):
        raise MissingFile(f"no {what} at {path}")
    with open(path, "rb") as file:
        return digest_of(file, os.path.getsize(path))
