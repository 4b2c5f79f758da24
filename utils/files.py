"""Safe names; files written whole or not at all, and those of torch.save read without running code."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from utils.errors import MissingFile, UserError

# Published checkpoints hold NumPy scalars (mean_iu) beside tensors, under the module name of NumPy 1 or 2.
_scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
NUMPY_SCALARS = [
    _scalar,
    (_scalar, "numpy.core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
]

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


def printable(path: str | Path) -> str:
    """Return a path as text that can be printed and written on one line: odd bytes become \\xNN."""
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which is made; at the end its file replaces `path`.

    Other processes see the old file or the whole new one. After an error the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file whole or not at all."""
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.save(file, array)


def load_torch(path: str | Path, what: str) -> Any:
    """Return what torch.save wrote to `path`, on the CPU: only tensors, numbers, strings and containers.

    `what` names the file's role in messages. Raises MissingFile if there is no file, and UserError for a file
    that is damaged, is not of torch.save, or holds anything that would run code.
    """
    if not os.path.isfile(path):
        raise MissingFile(f"no {what} at {path}")
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        raise UserError(
            f"{what} {path} cannot be read safely: torch.save did not write it, it is damaged, or it holds "
            f"more than tensors, numbers and strings ({type(error).__name__})"
        ) from error


def sha256(path: str | Path, what: str = "file") -> str:
    """Return the hash of a file's content, in hexadecimal; MissingFile naming `what` if there is none."""
    if not os.path.isfile(path):
        raise MissingFile(f"no {what} at {path}")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
