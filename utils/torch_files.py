"""Files of torch.save: written with a hash of their content; checked, then read without running code."""

import logging
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from utils.errors import DamagedFile, DiskFull, MissingFile, UserError
from utils.files import HashedWriter, digest_of, free_room, hash_fits, replacing, sha256

logger = logging.getLogger("robustnet")

# Published checkpoints hold NumPy scalars (mean_iu) beside tensors, under the module name of NumPy 1 or 2.
_scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
NUMPY_SCALARS: list[Any] = [
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDSU"},
]

# Zip structures: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3
LOCAL, CENTRAL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I")
DESCRIPTOR = struct.Struct("<4s3I")
END = struct.Struct("<4sQ2H2I4Q4sIQI4s4H2IH")  # the end of the large form, its locator, and the short end
SHORT_END = 22  # bytes of the last of these
DESCRIBED = 8  # flag of a record whose checksum and sizes follow its content


class _Counter:
    """A file that only counts the bytes that are written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.bytes += size
        return size

    def flush(self) -> None:
        """Do nothing."""


def write(path: Path, content: Any) -> None:
    """Write what torch.load reads, with a hash at the end of the file, whole or not at all.

    Raises DiskFull that says how much room is needed.
    """
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            writer = HashedWriter(file)
            torch.save(content, writer)  # type: ignore[arg-type]
            writer.finish()
    except DiskFull as error:
        counter = _Counter()
        torch.save(content, counter)  # type: ignore[arg-type]
        raise DiskFull(
            f"disk full: {path} needs {counter.bytes / 2**20:.1f} MiB, and {free_room(path.parent)}; older "
            "files are unchanged; free some room or name another folder"
        ) from error


def read(path: str | Path, what: str) -> Any:
    """Return what torch.save wrote to `path`, on the CPU: only tensors, numbers, strings and containers.

    `what` names the file's role in messages. Raises MissingFile if there is no file, DamagedFile for a file
    that `check` finds damaged or that is not of torch.save, and UserError for one that holds anything that
    would run code, or that another program writes to meanwhile. A file of a form without checksums is read
    with a warning.
    """
    with _opened(path, what) as file, _unchanged(file, path, what):  # what is checked is what is read
        return _read_checked(file, path, what)


def read_hashed(path: str | Path, what: str) -> tuple[Any, str]:
    """Return what `read` returns, and the hash of the file that it read, in hexadecimal."""
    with _opened(path, what) as file, _unchanged(file, path, what):
        content = _read_checked(file, path, what)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return content, digest_of(file, size)


def _read_checked(file: BinaryIO, path: str | Path, what: str) -> Any:
    sound = _check(file, path, what)
    file.seek(0)
    content = _read(file, path, what, sound)
    if not sound:
        logger.warning("%s %s is of a form without checksums: damaged numbers in it go unnoticed", what, path)
    return content


@contextmanager
def _unchanged(file: BinaryIO, path: str | Path, what: str) -> Iterator[None]:
    """Raise UserError if another program has written to an open file at the end of the block.

    A file that is replaced at its path stays as it is for those that have it open.
    """
    before = os.fstat(file.fileno())
    yield
    now = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        raise UserError(f"{what} {path} was written to while it was read; start again once it is whole")


def skim(path: Path, what: str) -> Any:
    """Return what `read` returns, fast, for its numbers and strings: tensors are read only in use, unchecked.

    Raises DamagedFile if the rest is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            archive.read(pickles[0])  # checks it
    except (zipfile.BadZipFile, IndexError, OSError, struct.error):
        return read(path, what)
    return _read(path, path, what, sound=True, mmap=True)


def _read(file: Path | BinaryIO, path: str | Path, what: str, sound: bool, mmap: bool = False) -> Any:
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        reason = "" if sound else "torch.save did not write it, it is damaged, or "
        raise (UserError if sound else DamagedFile)(
            f"{what} {path} cannot be read safely: {reason}it holds more than tensors, numbers and strings "
            f"({type(error).__name__})"
        ) from error


def check(path: str | Path, what: str) -> bool:
    """Raise DamagedFile if any byte of a file of torch.save is not as it was written.

    Return True if it is sure that none is. The old form cannot be checked: it is not a zip file and has no
    checksums, unless the file's name ends with its hash, as torchvision's do. Raises MissingFile.
    """
    with _opened(path, what) as file:
        return _check(file, path, what)


def _opened(path: str | Path, what: str) -> BinaryIO:
    if not os.path.isfile(path):
        raise MissingFile(f"no {what} at {path}")
    return open(path, "rb")


def _check(file: BinaryIO, path: str | Path, what: str) -> bool:
    fits = hash_fits(file)
    if fits is None and file.read(4) == b"PK\3\4":
        if fault := _zip_fault(file):
            raise DamagedFile(f"{what} {path} is damaged: {fault}")
        return True
    if fits is False:
        raise DamagedFile(f"{what} {path} is damaged: its content does not fit the hash at its end")
    return fits or _check_name(path, what)


def _check_name(path: str | Path, what: str) -> bool:
    """Compare a file's hash with that in its name, if there is one."""
    named = re.search(r"-([0-9a-f]{8,64})\.\w+$", Path(path).name)
    if named and sha256(path).startswith(named[1]):
        return True
    if named and not named[1].isdecimal():  # digits only may be a date
        raise DamagedFile(f"{what} {path} is damaged: its SHA-256 does not begin with {named[1]}")
    return False


def _zip_fault(file: BinaryIO) -> str | None:
    """Return what is wrong in a zip file, None if nothing is.

    Every record must fit its checksum. In a file that torch wrote, all other bytes are checked as well.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if record := archive.testzip():
                return f"{record} does not fit its checksum"
            return _frame_fault(file, archive)
    except Exception as error:  # zipfile and zlib raise many kinds
        return f"it is not a whole zip file ({type(error).__name__}: {error})"


def _frame_fault(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    """Return what is wrong between the records of a zip file, None if nothing is or torch did not write it.

    Each byte there is a constant or repeats another one: names, sizes and checksums are before and after
    each record and again in the directory, and padding is Z. Files of 4 GiB or more have another layout
    around their records; only the end of those is checked.
    """
    size = file.seek(0, os.SEEK_END)
    if size >= 2**32:
        file.seek(-END.size, os.SEEK_END)
        end = _end(len(archive.infolist()), size - END.size - archive.start_dir, archive.start_dir)
        return None if file.read() == end else "its directory is changed"
    records = sorted(archive.infolist(), key=lambda record: record.header_offset)
    frames = [_local_frame(file, record) for record in records]
    if not any(padding.startswith(b"FB") for _, _, padding in frames):
        return None
    common, position = frames[0][0][1:6], 0
    for record, (header, name, padding) in zip(records, frames, strict=True):
        sizes = record.CRC, record.compress_size, record.file_size
        described = header[2] & DESCRIBED
        expected = (b"PK\3\4", *common, *((0, 0, 0) if described else sizes), len(name), len(padding))
        zeds = b"FB" + struct.pack("<H", len(padding) - 4) + b"Z" * (len(padding) - 4)
        if record.header_offset != position or header != expected or padding != zeds:
            return f"the beginning of {record.filename} is not as torch writes it"
        position += LOCAL.size + len(name) + len(padding) + record.compress_size
        if described:
            file.seek(position)
            if file.read(DESCRIPTOR.size) != DESCRIPTOR.pack(b"PK\7\10", *sizes):
                return f"the end of {record.filename} is not as torch writes it"
            position += DESCRIPTOR.size
    file.seek(position)
    directory = b"".join(_central_header(record, common) for record in archive.infolist())
    end = _end(len(records), len(directory), position)
    return (
        None if file.read() in (directory + end, directory + end[-SHORT_END:]) else "its directory is changed"
    )


def _end(count: int, length: int, position: int) -> bytes:
    """Return what torch writes after the directory of `count` records, `length` bytes at `position`."""
    large = (b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, length, position)
    locator = b"PK\6\7", 0, position + length, 1
    count, length, position = min(count, 0xFFFF), min(length, 2**32 - 1), min(position, 2**32 - 1)
    return END.pack(*large, *locator, b"PK\5\6", 0, 0, count, count, length, position, 0)


def _local_frame(file: BinaryIO, record: zipfile.ZipInfo) -> tuple[tuple[Any, ...], bytes, bytes]:
    """Return the fields before a record, its name there and the padding."""
    file.seek(record.header_offset)
    header = LOCAL.unpack(file.read(LOCAL.size))
    return header, file.read(header[-2]), file.read(header[-1])


def _central_header(record: zipfile.ZipInfo, common: tuple[Any, ...]) -> bytes:
    """Return what torch writes in the directory for a record."""
    name = record.orig_filename.encode()
    sizes = record.CRC, record.compress_size, record.file_size
    return CENTRAL.pack(b"PK\1\2", 0, *common, *sizes, len(name), 0, 0, 0, 0, 0, record.header_offset) + name
