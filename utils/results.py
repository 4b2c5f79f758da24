"""What the evaluation of one dataset found, from its images' pixel counts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from utils.metrics import Summary, mean_over, summarize
from utils.records import picture_path


class Domain(NamedTuple):
    """Scores in [0, 1]."""

    summary: Summary | None  # None without labels
    counts: Tensor  # (K, K) int64 by (truth, prediction)
    subsets: dict[str, float]  # mean IoU over named subsets of the classes
    images: dict[str, float]  # mean IoU of each image; nan without labels
    pictures: list[tuple[str, str, Path]]  # (what for, image, file)


def percent(score: float) -> str:
    """Write a score in [0, 1] as percent with two decimals, nan as "-"."""
    return "-" if math.isnan(score) else f"{100 * score:.2f}"


def subset_scores(domain: Domain) -> dict[str, float]:
    """Return the means over subsets of the classes by what readers call them."""
    return {f"mIoU of {key.rpartition('_')[2]} classes": mean for key, mean in domain.subsets.items()}


def left_out(names: Sequence[str], summary: Summary) -> list[str]:
    """Return the sentence on the classes that the mean leaves out, if any."""
    absent = ", ".join(name for i, name in enumerate(names) if i not in summary.present)
    return [f"neither predicted nor in the truth, left out of the mean: {absent}"] if absent else []


def score_domain(
    images: Mapping[str, Tensor],
    num_classes: int,
    subsets: Mapping[str, Sequence[int]],
    folders: Sequence[Path],
) -> Domain:
    """Score counts (K, K) by image; pictures are those of the best, the median and the worst image.

    An image counts there if one of the records' `folders` has its picture.
    """
    scores = {name: summarize(counts).mean_iu for name, counts in images.items()}
    counts = sum(images.values(), torch.zeros(num_classes, num_classes, dtype=torch.int64))
    summary = summarize(counts)
    means = {subset: mean_over(summary.iou, classes) for subset, classes in subsets.items()}
    files = {}
    for folder in folders:
        files |= {name: path for name in images if (path := picture_path(folder, name)).is_file()}
    chosen = _choose({name: scores[name] for name in files})
    pictures = [(kind, name, files[name]) for kind, name in chosen.items()]
    return Domain(summary if summary.present else None, counts, means, scores, pictures)


def _choose(scores: Mapping[str, float]) -> dict[str, str]:
    """Return the names of the best, the median and the worst image, or of the first three without scores."""
    ranked = sorted((name for name in scores if not math.isnan(scores[name])), key=scores.get, reverse=True)
    if not ranked:
        return {f"example {i}": name for i, name in enumerate(sorted(scores)[:3], start=1)}
    return {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}


def prune_pictures(folder: Path, domain: Domain) -> None:
    """Delete all small pictures in the records' `folder` but the chosen ones."""
    kept = {path for _, _, path in domain.pictures}
    for path in folder.glob("pictures/**/*.jpg"):
        if path not in kept:
            path.unlink()
