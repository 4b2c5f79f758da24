"""Tables of scores as text and Markdown, and the results.json of a run."""

import json
import math
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from utils.metrics import Summary

Rows = Sequence[Sequence[str]]  # the first row is the header


def percent(score: float) -> str:
    """Write a score in [0, 1] as percent with two decimals, nan as "-"."""
    return "-" if math.isnan(score) else f"{100 * score:.2f}"


def domain_rows(scores: Mapping[str, Mapping[str, float]], seen: Collection[str] = ()) -> Rows:
    """Lay out `scores[run][domain]` (mIoU in [0, 1]): runs as rows, domains as columns and a mean at the end.

    Domains in `seen` (trained on) are marked by * and left out of the mean. A run that lacks a score
    (missing or nan) in another gets "-" for its mean.
    """
    domains = list(dict.fromkeys(domain for row in scores.values() for domain in row))
    unseen = [domain for domain in domains if domain not in seen]
    marked = [f"{domain}*" if domain in seen else domain for domain in domains]
    rows = [["mIoU (%)", *marked, "mean of unseen" if len(unseen) < len(domains) else "mean"]]
    for run, row in scores.items():
        mean = sum(row.get(domain, math.nan) for domain in unseen) / len(unseen) if unseen else math.nan
        rows.append([run, *(percent(row.get(domain, math.nan)) for domain in domains), percent(mean)])
    return rows


def class_rows(names: Sequence[str], summary: Summary) -> Rows:
    """Lay out IoU, precision and recall in percent by class, then their means over classes that have one."""
    columns = summary.iou, summary.precision, summary.recall
    rows = [["class", "IoU", "precision", "recall"]]
    rows += [[name, *map(percent, scores)] for name, *scores in zip(names, *columns, strict=True)]
    return [*rows, ["mean", *(percent(torch.tensor(column).nanmean().item()) for column in columns)]]


def summary_lines(names: Sequence[str], summary: Summary) -> str:
    """Write the scores of the whole set in percent, and the classes that its mean leaves out."""
    scores = [("mIoU", "mean_iu"), ("acc", "acc"), ("acc_cls", "acc_cls"), ("fwavacc", "fwavacc")]
    text = ", ".join(f"{name} {percent(getattr(summary, field))}" for name, field in scores)
    absent = [name for i, name in enumerate(names) if i not in summary.present]
    if absent:
        text += f"\nneither predicted nor in the truth, left out of the mean: {', '.join(absent)}"
    return text


def text_table(rows: Rows) -> str:
    """Align the columns with blanks: the first to the left, numbers to the right."""
    return "\n".join("  ".join(cells).rstrip() for cells in _padded(rows))


def markdown_table(rows: Rows) -> str:
    """Write a Markdown table that is also aligned as text."""
    header, *body = _padded(rows)
    rule = ["-" * len(header[0]), *("-" * max(1, len(cell) - 1) + ":" for cell in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *body])


def _padded(rows: Rows) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ["<", *[">"] * (len(widths) - 1)]
    return [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True)]
        for row in rows
    ]


def versions() -> dict[str, str | None]:
    """Name what computed the numbers: Python, libraries, CUDA and GPU (None without)."""
    libraries = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pillow")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"python": platform.python_version(), **libraries, "cuda": torch.version.cuda, "gpu": gpu}


def write_results(path: Path | str, *, metrics: Mapping[str, Summary | None], **record: Any) -> None:
    """Write a run as JSON: `metrics` per dataset (None: no labels), the `record` and the library versions.

    nan becomes null. The record should hold what repeats the run: command, snapshot, protocol.
    """
    scores = {name: summary and summary._asdict() for name, summary in metrics.items()}
    content = _without_nan({"metrics": scores, **record, "versions": versions()})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
