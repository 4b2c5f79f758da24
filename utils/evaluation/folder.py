"""Where an evaluation keeps its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils import distributed
from utils.errors import UserError


@dataclass(frozen=True)
class ResultFolder:
    """The folder of an evaluation of slice `index` of `count` of each dataset."""

    path: Path
    split: str
    index: int = 0
    count: int = 1

    def progress(self, dataset: str, index: int | None = None) -> Path:
        """Return the folder of the finished images of a dataset's slice `index`, by default its own."""
        index = self.index if index is None else index
        part = f"_{index}_of_{self.count}" if self.count > 1 else ""
        return self.path / "records" / f"{dataset}_{self.split}{part}"

    def pictures(self, dataset: str, only_one: bool) -> Path:
        """Return the folder of a dataset's large pictures; it has a shorter name for the only dataset."""
        return self.path / (self.split if only_one else f"{dataset}_{self.split}")

    def slice_file(self, index: int | None = None) -> Path:
        """Return the file with the results of slice `index`, by default its own."""
        return self.path / f"results_{self.index if index is None else index}_of_{self.count}.json"

    def missing_slices(self) -> list[int]:
        """Return the slices that have no results yet."""
        return [index for index in range(self.count) if not self.slice_file(index).is_file()]

    def read_slices(self) -> list[dict[str, Any]]:
        """Return the results of all slices, as they were written."""
        return [json.loads(self.slice_file(index).read_text()) for index in range(self.count)]

    def check_writable(self) -> None:
        """Make the folder; UserError, naming it, if nothing can be written there."""
        probe = self.path / f".writable_{distributed.rank()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"results cannot be written to {self.path}: {error.strerror}") from error
