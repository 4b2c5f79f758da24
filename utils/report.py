"""Tables of scores as text and Markdown, and the files of a run's results."""

import csv
import io
import json
import math
import platform
import statistics
import subprocess
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from utils.files import write_text
from utils.html_report import page
from utils.metrics import Summary, mean_over
from utils.results import Domain, left_out, percent, subset_scores

Rows = Sequence[Sequence[str]]  # the first row is the header


def domain_rows(scores: Mapping[str, Mapping[str, float]], seen: Collection[str] = ()) -> Rows:
    """Lay out `scores[run][domain]` as `seed_rows` does."""
    return seed_rows({run: [row] for run, row in scores.items()}, seen)


def seed_rows(runs: Mapping[str, Sequence[Mapping[str, float]]], seen: Collection[str] = ()) -> Rows:
    """Lay out `runs[name][i][domain]` (mIoU in [0, 1]): names as rows, domains as columns and their mean.

    Several runs of one name become their mean and standard deviation. Domains in `seen` (trained on) are
    marked by * and left out of the mean. What one run of a name lacks (missing or nan) is "-" for all.
    """
    domains = list(dict.fromkeys(domain for rows in runs.values() for row in rows for domain in row))
    unseen = [domain for domain in domains if domain not in seen]
    marked = [f"{domain}*" if domain in seen else domain for domain in domains]
    table = [["mIoU (%)", *marked, "mean of unseen" if len(unseen) < len(domains) else "mean"]]
    for name, rows in runs.items():
        columns = [[row.get(domain, math.nan) for row in rows] for domain in domains]
        means = [sum(row.get(domain, math.nan) for domain in unseen) / max(1, len(unseen)) for row in rows]
        table.append([name, *map(spread, columns), spread(means) if unseen else "-"])
    return table


def spread(scores: Sequence[float]) -> str:
    """Write scores in [0, 1] in percent: one as it is, several as mean and standard deviation (n - 1)."""
    if len(scores) == 1 or any(map(math.isnan, scores)):
        return percent(sum(scores))
    return f"{percent(statistics.mean(scores))} ± {percent(statistics.stdev(scores))}"


def class_rows(names: Sequence[str], summary: Summary) -> Rows:
    """Lay out IoU, precision and recall in percent by class, then their means over classes that have one."""
    columns = summary.iou, summary.precision, summary.recall
    rows = [["class", "IoU", "precision", "recall"]]
    rows += [[name, *map(percent, scores)] for name, *scores in zip(names, *columns, strict=True)]
    return [*rows, ["mean", *(percent(mean_over(column, range(len(column)))) for column in columns)]]


def summary_lines(names: Sequence[str], domain: Domain) -> str:
    """Write the scores of the whole set in percent, and the classes that its mean leaves out."""
    summary = domain.summary
    scores = [("mIoU", "mean_iu"), ("acc", "acc"), ("acc_cls", "acc_cls"), ("fwavacc", "fwavacc")]
    text = ", ".join(f"{name} {percent(getattr(summary, field))}" for name, field in scores)
    text = [text, *(f"{title} {percent(mean)}" for title, mean in subset_scores(domain).items())]
    return "\n".join(text + left_out(names, summary))


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


def git_commit() -> str | None:
    """Return the commit of this code, with "-dirty" if files differ from it; None where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def write_results(path: Path | str, domains: Mapping[str, Domain], **record: Any) -> None:
    """Write a run as JSON: `metrics` per dataset (None: no labels), the `record`, code and library versions.

    nan becomes null. The record should hold what repeats the run: command, snapshot, protocol.
    """
    metrics = {name: domain.summary and _scores(domain) for name, domain in domains.items()}
    content = {"metrics": metrics, **record, "git_commit": git_commit(), "versions": versions()}
    write_text(Path(path), json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")


def _scores(domain: Domain) -> dict:
    counted = {"images": len(domain.images), "confusion": domain.counts.tolist()}
    return domain.summary._asdict() | domain.subsets | counted


def write_report(
    folder: Path,
    run: str,
    domains: Mapping[str, Domain],
    seen: Collection[str],
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    record: Mapping[str, Any],
) -> None:
    """Write results.json, results.csv, images.csv, results.md and index.html of a `run` into `folder`.

    `names` and `palette` (red, green, blue) are those of the classes, `seen` the datasets trained on.
    """
    write_results(folder / "results.json", domains, classes=names, **record)
    scored = {name: domain for name, domain in domains.items() if domain.summary}
    rows = [["dataset", "class", "iou", "precision", "recall"]]
    for name, domain in scored.items():
        rows += [[name, *row] for row in _exact_rows(names, domain)]
    write_csv(folder / "results.csv", rows)
    rows = [["dataset", "image", "mean_iu"]]
    for name, domain in scored.items():
        ranked = sorted(domain.images.items(), key=lambda item: (math.isnan(item[1]), -item[1]))
        rows += [[name, image, _exact(score)] for image, score in ranked]
    write_csv(folder / "images.csv", rows)
    table = domain_rows({run: {name: domain.summary.mean_iu for name, domain in scored.items()}}, seen)
    facts = run_facts(record)
    text = [f"# {run}", markdown_table(table), "\n".join(f"- {key}: {value}" for key, value in facts.items())]
    for name, domain in domains.items():
        text += [f"## {name}"]
        if domain.summary:
            text += [summary_lines(names, domain).replace("\n", "  \n")]
            text += [markdown_table(class_rows(names, domain.summary))]
        else:
            text += [f"{len(domain.images)} images without labels, so no scores."]
    write_text(folder / "results.md", "\n\n".join(text) + "\n")
    write_text(folder / "index.html", page(run, table, facts, domains, names, palette, folder))


def run_facts(record: Mapping[str, Any]) -> dict[str, str]:
    """Say in words how a run's scores came about."""
    protocol = record["protocol"]
    scales = ", ".join(map(str, protocol["scales"]))
    how = f"{protocol['mode']}, scales {scales}, {'mirrored' if protocol['flip'] else 'not mirrored'}"
    if protocol["mode"] == "sliding":
        how += f", crop {protocol['crop']} px, overlap {protocol['overlap']:.3g}"
    used = versions()
    unread = "; ".join(f"{name}: {', '.join(files)}" for name, files in record["unreadable"].items())
    return {
        "inference": f"{how}, {protocol['precision']}",
        "split": f"{protocol['split']}, Mapillary protocol {protocol['mapillary_protocol']}",
        "checkpoint": f"{Path(record['snapshot']).name}, sha256 {record['snapshot_sha256'][:16]}...",
        "command": record["command"],
        "code": git_commit() or "no git commit",
        "computed with": f"torch {used['torch']} on {used['gpu'] or 'a CPU'}, Python {used['python']}",
    } | ({"cannot be read": unread} if unread else {})


def _exact_rows(names: Sequence[str], domain: Domain) -> Rows:
    """Lay out class scores, and the means over all classes and over subsets, as fractions."""
    summary = domain.summary
    columns = summary.iou, summary.precision, summary.recall
    rows = [[name, *map(_exact, scores)] for name, *scores in zip(names, *columns, strict=True)]
    rows += [["mean", *(_exact(mean_over(column, range(len(column)))) for column in columns)]]
    return rows + [[subset, _exact(mean), "", ""] for subset, mean in domain.subsets.items()]


def _exact(score: float) -> str:
    return "" if math.isnan(score) else f"{score:.6f}"


def write_csv(path: Path, rows: Rows) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
