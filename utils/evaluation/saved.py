"""The results of evaluations, read back from the folders that eval.py wrote.

Scores are kept by column: a dataset's name, with the split after it unless that is val (camvid, camvid_test).
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import MissingFile, UserError
from utils.evaluation.protocol import Protocol
from utils.evaluation.scores import METRICS, averaged_classes
from utils.evaluation.tables import plain_cell
from utils.files import named_path
from utils.logging import logger
from utils.variants import parse


class Place(NamedTuple):
    """What a column holds, and where its evaluation wrote its files."""

    folder: Path
    dataset: str
    split: str


@dataclass(frozen=True)
class Saved:
    """The results of one checkpoint; scores are in [0, 1] and nan where a score is not defined."""

    classes: Sequence[str]
    protocol: Mapping[str, Any]
    network: Mapping[str, Any]  # empty where the results do not say
    training_domains: Sequence[str]
    snapshot: str  # hash of the checkpoint
    places: Mapping[str, Place]  # by column
    # By column, only of datasets with labels:
    means: Mapping[str, float]  # mean IoU
    counted: Mapping[str, Sequence[str]]  # names of the classes in the mean
    ious: Mapping[str, Sequence[float]]  # IoU of each class
    images: Mapping[str, Mapping[str, float]]  # mean IoU of each image
    measured: Mapping[str, Mapping[str, float]]  # of scores.METRICS, those besides the mean IoU
    measures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # bins, width of bands; by flag

    @property
    def main_means(self) -> Mapping[str, float]:
        """The mean IoU by column, without variants such as corrupted images where there are others."""
        return self.main_values("mean_iu")

    def main_values(self, metric: str) -> Mapping[str, float]:
        """Return one of scores.METRICS by the same columns."""
        names = [name for name in self.means if not parse(name).is_variant] or [*self.means]
        return {name: self.value(name, metric) for name in names}

    def value(self, column: str, metric: str) -> float:
        """Return one of scores.METRICS; nan where it was not measured."""
        if metric == "mean_iu":
            return self.means[column]
        return self.measured[column].get(metric, math.nan)


def read(path: str | Path) -> Saved:
    """Read results.json, its folder, or all evaluations in the folder of a training run or experiment.

    Raises MissingFile, and UserError for another file, for a slice of a dataset, for an evaluation that is
    not finished, and for evaluations that do not fit together.
    """
    place = Path(path)
    here = [place] if place.is_file() else [*place.glob("results.json")]
    files = here or sorted(place.glob("*/results.json")) or sorted(place.glob("*/*/results.json"))
    if not files:
        raise MissingFile(f"no results at {path}; eval.py writes them")
    runs = [_read(file) for file in files]
    several = sum(len(run.places) for run in runs) > len(_merged(runs, "places"))
    how = [(run.snapshot, _without_split(run)) for run in runs]
    if several or any(each != how[0] for each in how):
        names = ", ".join(str(file.parent.relative_to(place)) for file in files)
        example = files[0].parent
        raise UserError(f"{path} holds several evaluations ({names}); name one of them, such as {example}")
    fields = "places", "means", "counted", "ious", "images", "measured", "measures"
    by_column: dict[str, Any] = {field: _merged(runs, field) for field in fields}
    splits = sorted({run.protocol["split"] for run in runs if "split" in run.protocol})
    protocol = {**runs[0].protocol, "split": " and ".join(splits)} if splits else runs[0].protocol
    return replace(runs[0], protocol=protocol, **by_column)


def _without_split(run: Saved) -> dict[str, Any]:
    """Return the protocol without the split, which the names of columns hold."""
    return {key: value for key, value in run.protocol.items() if key != "split"}


def _merged(runs: Sequence[Saved], field: str) -> dict[str, Any]:
    return {column: value for run in runs for column, value in getattr(run, field).items()}


def _read(file: Path) -> Saved:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        protocol = dict(record["protocol"])
        index, count = protocol.pop("slice", (0, 1))
        classes = record.get("classes", [])
        split = protocol.get("split", "val")
        column = {name: column_of(name, split) for name in record["metrics"]}
        scored = {name: metrics for name, metrics in record["metrics"].items() if metrics}
        averaged = {name: metrics.get("present", []) for name, metrics in scored.items()}
        averaged |= record.get("averaged", {})
        others = [key for key in METRICS if key != "mean_iu"]
        saved = Saved(
            classes=classes,
            protocol=protocol,
            network=record.get("network", {}),
            training_domains=record.get("training_domains", []),
            snapshot=record.get("snapshot_sha256", ""),
            places={column[name]: Place(file.parent, name, split) for name in column},
            means={column[name]: _number(metrics["mean_iu"]) for name, metrics in scored.items()},
            counted={column[name]: [classes[k] for k in averaged[name]] for name in scored},
            ious={column[name]: [*map(_number, metrics.get("iou", []))] for name, metrics in scored.items()},
            images={
                column.get(name, name): scores
                for name, scores in read_images(file.parent / "images.csv").items()
            },
            measured={
                column[name]: {key: _number(metrics[key]) for key in others if key in metrics}
                for name, metrics in scored.items()
            },
            measures={column[name]: record.get("measures", {}) for name in scored},
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"{file} does not hold results of eval.py") from error
    if count > 1:
        raise UserError(
            f"{file} is slice {index} of {count}; evaluate all slices into one folder, whose results.json "
            "then holds the whole datasets"
        )
    if unfinished := record.get("unfinished"):
        raise UserError(f"{file} is not finished: {', '.join(unfinished)}; evaluate again with --resume")
    return saved


def column_of(name: str, split: str) -> str:
    """Return the column of a dataset or a variant of one, such as camvid_test or camvid_test@fog-3."""
    dataset, at, variant = name.partition("@")
    return name if split == "val" else f"{dataset}_{split}{at}{variant}"


def _number(value: float | None) -> float:
    """Return a score of results.json, which has null for nan."""
    return math.nan if value is None else float(value)


def read_images(file: Path) -> dict[str, dict[str, float]]:
    """Read images.csv; empty if it is not there."""
    images: dict[str, dict[str, float]] = {}
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                dataset, image = plain_cell(row["dataset"]), plain_cell(row["image"])
                images.setdefault(dataset, {})[image] = float(row["mean_iu"] or "nan")
    return images


def read_named(runs: Sequence[str]) -> dict[str, list[Saved]]:
    """Read runs given as NAME=RUN, see `read`; several of one name are its seeds.

    Raises UserError for a run without a name, and for runs of different classes. Warns of runs that are not
    comparable.
    """
    named: dict[str, list[Saved]] = {}
    for run in runs:
        name, path = named_path(run)
        if not (name and path):
            raise UserError(f"a run is given as NAME=FOLDER, not {run}")
        named.setdefault(name, []).append(read(path))
    every = [saved for seeds in named.values() for saved in seeds]
    if len({tuple(saved.classes) for saved in every}) > 1:
        raise UserError("the runs have different classes, so their scores cannot stand in one figure")
    if texts := differences(every):
        logger.warning("not comparable: the runs differ in %s", "; ".join(texts))
    return named


def differences(runs: Sequence[Saved]) -> list[str]:
    """Name the settings, and the classes in the means, in which runs differ."""
    keys = sorted({key for run in runs for key in _without_split(run)})
    values = {key: sorted({str(run.protocol.get(key)) for run in runs}) for key in keys}
    texts = [f"{key} {' or '.join(found)}" for key, found in values.items() if len(found) > 1]
    for column in dict.fromkeys(name for run in runs for name in run.counted):
        sets = {tuple(run.counted[column]) for run in runs if column in run.counted}
        if len(sets) > 1:
            numbers = " or ".join(str(number) for number in sorted(map(len, sets)))
            texts.append(f"the classes in the mean of {column} ({numbers} classes)")
    return texts


def protocols(runs: Sequence[Saved]) -> list[str]:
    """Say how the scores of the runs were computed, one line for each way, and over which classes."""
    lines: dict[str, None] = {}
    for run in runs:
        counted = {
            name: len(names)
            for name, names in sorted(run.counted.items())
            if names and name in run.main_means
        }
        texts = [protocol_title(run.protocol), *([averaged_classes(counted)] if counted else [])]
        lines["; ".join(texts)] = None
    return list(lines)


def protocol_title(protocol: Mapping[str, Any]) -> str:
    """Say a protocol in words, or what results of an earlier version hold of it."""
    try:
        return Protocol(**{**protocol, "scales": tuple(protocol["scales"])}).title()
    except (TypeError, KeyError):
        return ", ".join(f"{key} {value}" for key, value in protocol.items())
