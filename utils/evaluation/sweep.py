"""Scores of every scale on its own (eval.py --scale_sweep)."""

import math
from collections.abc import Mapping
from typing import Any

from utils.variants import parse

NOTE = (
    "best: by the labels of that dataset. A scale chosen by the labels of an unseen domain has seen them: "
    "choose it on a training domain, and report its scores elsewhere."
)
Scales = dict[float, float]  # a score by scale


def collect(scores: Mapping[str, float]) -> dict[str, Scales]:
    """Return the scores by dataset and scale from `scores` by name (cityscapes@scale-0.5)."""
    found: dict[str, Scales] = {}
    for name, score in scores.items():
        entry = parse(name)
        if entry.scale:
            found.setdefault(entry.dataset, {})[entry.scale] = score
    return found


def best_scale(scales: Scales, lowest: bool = False) -> float | None:
    """Return the scale with the highest score, or with the `lowest`; None if all are nan."""
    scored = {scale: score for scale, score in scales.items() if not math.isnan(score)}
    choose = min if lowest else max
    return choose(scored, key=lambda scale: scored[scale]) if scored else None


def rows(scores: Mapping[str, float], title: str, own: str, lowest: bool = False) -> list[list[str]]:
    """Lay out scores in percent: a row per scale, a column per dataset; the best scale of each is marked.

    The last row, called `own`, has the scores of the datasets under the protocol itself.
    """
    sweeps = collect(scores)
    best = {name: best_scale(scales, lowest) for name, scales in sweeps.items()}
    table = [[f"{title} (%)", *sweeps]]
    for scale in sorted({scale for scales in sweeps.values() for scale in scales}):
        cells = [
            _percent(scales.get(scale, math.nan)) + " (best)" * (scale == best[name])
            for name, scales in sweeps.items()
        ]
        table.append([f"scale {scale}", *cells])
    return [*table, [own, *(_percent(scores.get(name, math.nan)) for name in sweeps)]]


def to_dict(scores: Mapping[str, float]) -> dict[str, Any]:
    """Return the mean IoU by dataset and scale, and the best scales, for results.json."""
    return {
        name: {"mean_iu": scales, "best": best_scale(scales), "note": NOTE}
        for name, scales in collect(scores).items()
    }


def _percent(score: float) -> str:
    return "-" if math.isnan(score) else f"{100 * score:.2f}"
