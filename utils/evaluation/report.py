"""The files of a run's results: results.json, results.csv, images.csv, results.md and index.html."""

import json
import math
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from utils.evaluation import robustness, sweep, tables
from utils.evaluation.calibration import reliability
from utils.evaluation.html_report import page
from utils.evaluation.scores import DatasetScores, Results, averaged_classes, network_name
from utils.files import write_text


def write_report(folder: Path, results: Results) -> None:
    """Write all files of `results` into `folder`."""
    write_json(folder / "results.json", results)
    write_text(folder / "results.csv", tables.csv_table(tables.exact_class_rows(results)))
    write_text(folder / "images.csv", tables.csv_table(tables.exact_image_rows(results)))
    write_text(folder / "results.md", markdown(results))
    write_text(folder / "index.html", page(results, facts(results), folder))


def write_json(path: Path, results: Results) -> None:
    """Write the scores per dataset (null without labels, nan too) and what is needed to repeat the run."""
    content = {
        "metrics": {name: _metrics(scores) for name, scores in results.datasets.items()},
        "classes": results.classes.names,
        "averaged": {name: summary.averaged for name, (_, summary) in results.labelled.items()},
        "network": results.network,
        "training_domains": results.training_domains,
        "command": results.command,
        "snapshot": results.snapshot,
        "snapshot_sha256": results.snapshot_sha256,
        "protocol": results.protocol.to_dict() | {"slice": results.part},
        "peak_gpu_memory_gib": results.peak_gpu_memory_gib,
        "unreadable": {name: list(images) for name, images in results.left_out.items()},
        "left_out": results.left_out,
        "unfinished": results.unfinished,
        "git_commit": git_commit(),
        "versions": versions(),
    }
    if results.measures.to_dict():
        content["measures"] = results.measures.to_dict()
    if runs := results.robustness():
        content["robustness"] = {name: robustness.to_dict(*both) for name, both in runs.items()}
    if scales := sweep.to_dict(results.values()):
        content["scale_sweep"] = scales
    write_text(path, json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n")


def markdown(results: Results) -> str:
    """Return results.md: the table of datasets, how the scores were computed, and a table per dataset."""
    parts = [f"# {results.run}", results.how]
    parts += [tables.markdown_table(tables.dataset_rows(results, metric)) for metric in results.metrics]
    parts += ["\n".join(f"- {key}: {value}" for key, value in facts(results).items())]
    for title, every, note in tables.variant_tables(results):
        parts += [f"## {title}", *map(tables.markdown_table, every), *[note] * bool(note)]
    for name, scores in results.datasets.items():
        if not results.has_own_table(name):
            continue
        parts += [f"## {name}"]
        if scores.summary is None:
            parts += [f"{len(scores.images)} images without labels, so no scores."]
        else:
            lines = tables.summary_lines(results.classes, scores, scores.summary)
            parts += [lines.replace("\n", "  \n")]
            rows = tables.class_rows(results.classes, scores.summary, scores.boundary)
            parts += [tables.markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def facts(results: Results) -> dict[str, str]:
    """Say in words how the scores were computed."""
    protocol, used = results.protocol, versions()
    left_out = "; ".join(
        f"{name}: {image} ({why})"
        for name, images in results.left_out.items()
        for image, why in images.items()
    )
    unfinished = ", ".join(results.unfinished)
    return {
        "inference": protocol.describe(),
        **results.measures.describe(protocol.mode),
        "split": f"{protocol.split}, Mapillary protocol {protocol.mapillary_protocol}",
        "classes": averaged_classes(results.counted),
        "network": network_name(results.network),
        "checkpoint": f"{Path(results.snapshot).name}, sha256 {results.snapshot_sha256[:16]}...",
        "command": results.command,
        "code": git_commit() or "no git commit",
        "computed with": f"torch {used['torch']} on {used['gpu'] or 'a CPU'}, Python {used['python']}",
    } | {key: text for key, text in (("left out", left_out), ("not evaluated yet", unfinished)) if text}


def versions() -> dict[str, str | None]:
    """Return the versions of Python, libraries and CUDA, and the GPU's name; None where there is none."""
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


def _metrics(scores: DatasetScores) -> dict[str, Any] | None:
    if scores.summary is None:
        return None
    counted = {"images": len(scores.images), "confusion": scores.counts.tolist()}
    fields = scores.summary._asdict()
    del fields["averaged"]
    more: dict[str, Any] = {}
    if scores.calibration is not None:
        bins = [one._asdict() for one in reliability(scores.calibration)]
        more |= {"ece": scores.value("ece"), "reliability": bins}
    if scores.boundary is not None:
        more |= {"boundary_iou": scores.value("boundary_iou"), "boundary_iou_by_class": scores.boundary}
    return fields | scores.subsets | counted | more


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
