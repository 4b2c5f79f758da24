"""Files that are written whole or not at all, and files of torch.save that are read without running code."""

import hashlib
import os
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
