"""Scores under common corruptions (arXiv 1903.12261; for segmentation: arXiv 1908.05005)."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from utils.errors import MissingFile, UserError
from utils.variants import COMMON, NOTES, parse

Severities = dict[int, float]


@dataclass(frozen=True)
class Robustness:
    """Mean IoU in [0, 1] of one dataset without corruption, and by corruption and severity."""

    clean: float  # nan if it was not evaluated
    scores: dict[str, Severities] = field(default_factory=dict)

    def mean(self) -> float:
        """Return the mean over the benchmark's corruptions of their means over severities."""
        return _mean([fmean(scores.values()) for name, scores in self.scores.items() if name in COMMON])

    def degradation(self, corruption: str, reference: "Robustness") -> float:
        """Return the sum of 1 - mIoU over severities, relative to the reference (CD of arXiv 1908.05005)."""
        return _ratio(_errors(self.scores[corruption]), _errors(reference.scores[corruption]))

    def relative_degradation(self, corruption: str, reference: "Robustness") -> float:
        """Return the sum of losses of mIoU, relative to the reference (rCD of arXiv 1908.05005)."""
        own, other = (
            sum(run.clean - score for score in run.scores[corruption].values()) for run in (self, reference)
        )
        return _ratio(own, other)

    def degradations(self, reference: "Robustness") -> tuple[float, float]:
        """Return the means of both degradations over the benchmark's corruptions."""
        common = [name for name in self.scores if name in COMMON]
        return (
            _mean([self.degradation(name, reference) for name in common]),
            _mean([self.relative_degradation(name, reference) for name in common]),
        )


def collect(means: Mapping[str, float]) -> dict[str, Robustness]:
    """Return the scores of the datasets with corruptions from `means`, mean IoU by name."""
    found: dict[str, Robustness] = {}
    for name, score in means.items():
        entry = parse(name)
        if entry.corruption:
            of_dataset = found.setdefault(entry.dataset, Robustness(means.get(entry.dataset, math.nan)))
            of_dataset.scores.setdefault(entry.corruption, {})[entry.severity] = score
    return found


def read_reference(path: str | None, names: Sequence[str], protocol: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean IoU by name of the run whose results.json is `path`; none without a path.

    Raises MissingFile or UserError if the file is not there, was made under another protocol, or lacks one of
    `names`.
    """
    if path is None:
        return {}
    if not Path(path).is_file():
        raise MissingFile(f"no reference at {path}: --corruption_reference takes results.json of another run")
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
        theirs, metrics = results["protocol"], results["metrics"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a results.json of eval.py") from error
    differ = [key for key in protocol if key in theirs and theirs[key] != protocol[key]]
    if differ:
        texts = [f"{key} {theirs[key]}, not {protocol[key]}" for key in differ]
        raise UserError(f"the reference {path} was scored with {'; '.join(texts)}")
    if missing := [name for name in names if name not in metrics]:
        raise UserError(
            f"the reference {path} lacks {len(missing)} of {len(names)} datasets: {missing[0]}; evaluate it "
            "with the same --dataset, --corruption and --severity"
        )
    return {name: metrics[name]["mean_iu"] for name in names if metrics[name]}


def rows(run: Robustness, reference: Robustness | None, title: str = "mIoU") -> list[list[str]]:
    """Lay out the scores in percent by corruption (rows) and severity, and the degradations in percent."""
    severities = sorted({severity for scores in run.scores.values() for severity in scores})
    extra = ["degradation", "relative"] if reference else []
    table = [[f"{title} (%)", *map(str, severities), "mean", *extra]]
    table += [["no corruption", *[""] * len(severities), _percent(run.clean), *[""] * len(extra)]]
    for name, scores in run.scores.items():
        cells = [_percent(scores.get(severity, math.nan)) for severity in severities]
        ratios = (
            [run.degradation(name, reference), run.relative_degradation(name, reference)] if reference else []
        )
        table += [[noted(name), *cells, _percent(fmean(scores.values())), *map(_percent, ratios)]]
    count = sum(name in COMMON for name in run.scores)
    columns = [
        _mean([scores.get(severity, math.nan) for name, scores in run.scores.items() if name in COMMON])
        for severity in severities
    ]
    means = [*columns, run.mean(), *(run.degradations(reference) if reference else ())]
    return [*table, [f"mean of {count}", *map(_percent, means)]] if count else table


def noted(corruption: str) -> str:
    """Return a corruption's name, with what forbids a comparison with published scores."""
    note = NOTES.get(corruption)
    return f"{corruption} ({note})" if note else corruption


def to_dict(run: Robustness, reference: Robustness | None) -> dict[str, Any]:
    """Return the scores for results.json, all in [0, 1]."""
    corruptions: dict[str, Any] = {}
    for name, scores in run.scores.items():
        corruptions[name] = {"mean_iu": scores, "mean": fmean(scores.values())}
        if name in NOTES:
            corruptions[name]["note"] = NOTES[name]
        if reference:
            corruptions[name]["degradation"] = run.degradation(name, reference)
            corruptions[name]["relative_degradation"] = run.relative_degradation(name, reference)
    common = [name for name in run.scores if name in COMMON]
    whole: dict[str, Any] = {"clean": run.clean, "mean": run.mean(), "mean_over": common}
    if reference:
        whole["degradation"], whole["relative_degradation"] = run.degradations(reference)
    return whole | {"corruptions": corruptions}


def _errors(scores: Severities) -> float:
    return sum(1 - score for score in scores.values())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _percent(score: float) -> str:
    return "-" if math.isnan(score) else f"{100 * score:.2f}"
