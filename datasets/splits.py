"""split_data/: the published splits of flat downloads, as lists of image numbers."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from utils.errors import MissingFile, UserError
from utils.files import read_text

FOLDER = Path(__file__).parents[1] / "split_data"


def split_names(dataset: str) -> list[str]:
    """Return the names of a dataset's lists, such as "gtav_train", also that of what is left out."""
    return sorted(path.stem for path in FOLDER.glob(f"{dataset}_*.txt"))


@cache
def read_split(name: str) -> frozenset[int]:
    """Return the image numbers in split_data/NAME.txt: numbers and FIRST-LAST ranges, # starts a comment.

    Raises MissingFile if there is no such list, and UserError for other content or a repeated number.
    """
    path = FOLDER / f"{name}.txt"
    if not path.is_file():
        raise MissingFile(f"no split list {path}")
    numbers: list[int] = []
    for entry in " ".join(line.partition("#")[0] for line in read_text(path).splitlines()).split():
        if not (match := re.fullmatch(r"(\d+)(?:-(\d+))?", entry)):
            raise UserError(f"{path}: {entry!r} is neither a number nor a range FIRST-LAST")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{path} lists a number twice")
    return frozenset(numbers)


def as_ranges(values: Sequence[int] | np.ndarray) -> str:
    """Abbreviate sorted whole numbers: `as_ranges([0, 1, 2, 255])` is "0-2, 255"."""
    runs = np.split(np.asarray(values), np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
