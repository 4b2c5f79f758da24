"""The results of evaluations, read back from the folders that eval.py wrote."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import MissingFile, UserError
from utils.files import named_path


@dataclass(frozen=True)
class Saved:
    """The results in one folder; scores are in [0, 1] and nan where a score is not defined."""

    folder: Path
    classes: Sequence[str]
    protocol: Mapping[str, Any]
    means: Mapping[str, float]  # mean IoU by dataset; only datasets with labels
    ious: Mapping[str, Sequence[float]]  # IoU of each class by dataset
    images: Mapping[str, Mapping[str, float]]  # mean IoU of each image by dataset


def read(path: str | Path) -> Saved:
    """Read a folder of results, or the folder of a results.json.

    Raises MissingFile, and UserError for another file and for a slice of a dataset.
    """
    folder = Path(path).parent if Path(path).is_file() else Path(path)
    file = folder / "results.json"
    if not file.is_file():
        raise MissingFile(f"no results at {path}; eval.py writes them")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        scored = {name: metrics for name, metrics in record["metrics"].items() if metrics}
        saved = Saved(
            folder,
            record["classes"],
            record["protocol"],
            {name: _number(metrics["mean_iu"]) for name, metrics in scored.items()},
            {name: [*map(_number, metrics["iou"])] for name, metrics in scored.items()},
            _images(folder / "images.csv"),
        )
        index, count = saved.protocol.get("slice", (0, 1))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} does not hold results of eval.py") from error
    if count > 1:
        raise UserError(
            f"{file} is slice {index} of {count}; evaluate all slices into one folder, whose results.json "
            "then holds the whole datasets"
        )
    return saved


def _number(value: float | None) -> float:
    """Return a score of results.json, which has null for nan."""
    return math.nan if value is None else float(value)


def _images(file: Path) -> dict[str, dict[str, float]]:
    """Read images.csv; empty if it is not there."""
    images: dict[str, dict[str, float]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                images.setdefault(row["dataset"], {})[row["image"]] = float(row["mean_iu"] or "nan")
    return images


def read_named(runs: Sequence[str]) -> dict[str, list[Saved]]:
    """Read runs given as NAME=FOLDER; several of one name are its seeds.

    Raises UserError for a run without a name, and for runs of different classes.
    """
    named: dict[str, list[Saved]] = {}
    for run in runs:
        name, path = named_path(run)
        if not (name and path):
            raise UserError(f"a run is given as NAME=FOLDER, not {run}")
        named.setdefault(name, []).append(read(path))
    tables = {tuple(saved.classes) for seeds in named.values() for saved in seeds}
    if len(tables) > 1:
        raise UserError("the runs have different classes, so their scores cannot stand in one figure")
    return named
