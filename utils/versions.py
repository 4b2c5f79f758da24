"""Which version of each file a dataset listed, so that a file that changes later is not used in silence."""

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError

THREADS = 8  # that ask for sizes, which takes long on a network's disk
MISSING = -1  # the size of a file that is not there
CLOCK = 2 * 10**9  # ns by which the time of an unchanged file may differ: some file systems round it later
CHANGED = "was changed after it was listed"  # which tells such a file from one that cannot be read


class Version(NamedTuple):
    """The size of a file in bytes, and when it was last written, in ns."""

    size: int
    time: int

    @classmethod
    def of(cls, state: os.stat_result) -> "Version":
        """Return the version in what the system says of a file."""
        return cls(state.st_size, state.st_mtime_ns)

    def check(self, now: "Version", file: str) -> None:
        """Raise UserError, beginning with `file`, if the version `now` of the file is another one."""
        if now.size != self.size or abs(now.time - self.time) >= CLOCK:
            raise UserError(f"{file} {CHANGED}: {self} then, {now} now")

    def __str__(self) -> str:
        if self.size == MISSING:
            return "no file"
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time // 10**9))
        return f"{self.size} bytes of {written}"


def versions(files: Iterable[Path]) -> dict[Path, Version]:
    """Return the version of each of `files`, of size MISSING for one that is not there."""
    every = list(dict.fromkeys(files))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(chain.from_iterable(pool.map(_each, (every[i::THREADS] for i in range(THREADS)))))


def _each(files: list[Path]) -> list[tuple[Path, Version]]:
    return [(file, _version(file)) for file in files]


def _version(file: Path) -> Version:
    try:
        return Version.of(os.stat(file))
    except OSError:
        return Version(MISSING, 0)
