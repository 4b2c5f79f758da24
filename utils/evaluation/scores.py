"""The scores of datasets, computed from the pixel counts of their images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.classes import ClassTable
from utils.evaluation.boundary import boundary_ious
from utils.evaluation.calibration import expected_calibration_error
from utils.evaluation.counts import Counts, Measures, total
from utils.evaluation.metrics import Summary, mean_over, summarize
from utils.evaluation.progress import picture_path
from utils.evaluation.protocol import Protocol
from utils.evaluation.robustness import Robustness, collect
from utils.images import is_whole_picture
from utils.variants import parse

WORST = 10  # images of a dataset that the page shows
METRICS = {"mean_iu": "mIoU", "boundary_iou": "boundary IoU", "ece": "ECE"}


@dataclass(frozen=True)
class DatasetScores:
    """The scores of one dataset, in [0, 1]."""

    summary: Summary | None  # None without labels
    counts: Tensor  # (K, K) int64 by (truth, prediction)
    subsets: dict[str, float]  # mean IoU over named subsets of the classes
    images: dict[str, float]  # mean IoU of each image; nan without labels
    pictures: list[tuple[str, str, Path]]  # (what for, image, file)
    calibration: Tensor | None = None  # (3, bins), see calibration.count_confidences
    boundary: Sequence[float] | None = None  # boundary IoU of each class, nan where it has no pixels

    def value(self, metric: str) -> float:
        """Return one of METRICS, nan where it was not measured or is not defined."""
        if self.summary is None:
            return math.nan
        if metric == "ece":
            return math.nan if self.calibration is None else expected_calibration_error(self.calibration)
        if metric == "boundary_iou":
            return math.nan if self.boundary is None else mean_over(self.boundary, self.summary.averaged)
        return self.summary.mean_iu


@dataclass(frozen=True)
class Results:
    """The scores of one checkpoint on some datasets, and how they were computed."""

    run: str  # the checkpoint's name, which heads the tables
    classes: ClassTable
    datasets: Mapping[str, DatasetScores]
    network: Mapping[str, Any]  # arch and wt_layer
    training_domains: Sequence[str]  # datasets that the network was trained on or adapted to
    protocol: Protocol
    command: str
    snapshot: str
    snapshot_sha256: str
    peak_gpu_memory_gib: float  # 0 on a CPU
    left_out: Mapping[str, Mapping[str, str]]  # by dataset and image: why
    part: tuple[int, int] = (0, 1)  # (index, count) of the slice of each dataset
    reference: Mapping[str, float] = field(default_factory=dict)  # mean IoU by dataset of another run
    unfinished: Sequence[str] = ()  # datasets that are still to be evaluated
    measures: Measures = Measures()

    @property
    def how(self) -> str:
        """How the scores were computed, in one line: protocol, split, classes in the means."""
        return f"{self.protocol.title()}; {averaged_classes(self.counted)}"

    @property
    def counted(self) -> dict[str, int]:
        """The number of classes in the mean of each labelled dataset that has a table of its own."""
        labelled = self.labelled.items()
        return {name: len(summary.averaged) for name, (_, summary) in labelled if self.has_own_table(name)}

    @property
    def labelled(self) -> dict[str, tuple[DatasetScores, Summary]]:
        """The datasets that have labels, each with its summary."""
        return {name: (scores, scores.summary) for name, scores in self.datasets.items() if scores.summary}

    def has_own_table(self, name: str) -> bool:
        """Return whether a dataset is scored as it is, or none is (see utils.variants)."""
        variants = {each for each in self.datasets if parse(each).is_variant}
        return name not in variants or len(variants) == len(self.datasets)

    @property
    def metrics(self) -> dict[str, str]:
        """The METRICS that were measured and their titles."""
        return {key: METRICS[key] for key in ("mean_iu", *self.measures.metrics)}

    def values(self, metric: str = "mean_iu") -> dict[str, float]:
        """Return one of METRICS by labelled dataset."""
        return {name: scores.value(metric) for name, (scores, _) in self.labelled.items()}

    def protocol_of(self, name: str) -> Protocol:
        """Return how the images of a dataset were predicted."""
        return self.protocol.at_scale(parse(name).scale)

    def robustness(self, metric: str = "mean_iu") -> dict[str, tuple[Robustness, Robustness | None]]:
        """Return the scores under corruptions by dataset, with those of the reference, if there is one."""
        references = collect(self.reference) if metric == "mean_iu" else {}
        return {name: (run, references.get(name)) for name, run in collect(self.values(metric)).items()}


def network_name(network: Mapping[str, Any]) -> str:
    """Name a network by its architecture and, if it whitens or normalizes, the codes of --wt_layer."""
    codes = network.get("wt_layer") or []
    shown = f" wt_layer {''.join(map(str, codes))}" if any(codes) else ""
    return f"{network.get('arch', 'not recorded')}{shown}"


def averaged_classes(counted: Mapping[str, int]) -> str:
    """Say over how many classes the mean of each dataset is."""
    numbers: dict[int, list[str]] = {}
    for name, number in counted.items():
        numbers.setdefault(number, []).append(name)
    texts = [f"{number} classes ({', '.join(names)})" for number, names in numbers.items()]
    return f"mean over {' and '.join(texts)}" if texts else "no labels"


def score_dataset(
    images: Mapping[str, Counts],
    classes: ClassTable,
    subsets: Mapping[str, Sequence[int]],
    folders: Sequence[Path],
    occurring: Sequence[int] | None = None,
) -> DatasetScores:
    """Score a dataset from the counts of its images, by name; `subsets` are train ids by name.

    Means are over the classes `occurring` in the dataset, by default all.

    The best, the median and the WORST worst images are chosen among those whose small picture is in one of
    the progress `folders`.
    """
    scores = {name: summarize(counts.confusion, occurring).mean_iu for name, counts in images.items()}
    counts = total(images.values(), len(classes))
    summary = summarize(counts.confusion, occurring)
    means = {name: mean_over(summary.iou, train_ids) for name, train_ids in subsets.items()}
    files: dict[str, Path] = {}
    for folder in folders:
        files |= {name: path for name in images if is_whole_picture(path := picture_path(folder, name))}
    chosen = choose({name: scores[name] for name in files})
    pictures = [(kind, name, files[name]) for kind, name in chosen.items()]
    return DatasetScores(
        summary if summary.present else None,
        counts.confusion,
        means,
        scores,
        pictures,
        counts.calibration,
        None if counts.boundary is None else boundary_ious(counts.boundary),
    )


def choose(scores: Mapping[str, float]) -> dict[str, str]:
    """Return the names of the best, the median and the worst images, or of the first three without scores."""
    scored = [name for name in scores if not math.isnan(scores[name])]
    ranked = sorted(scored, key=lambda name: scores[name], reverse=True)
    if not ranked:
        return {f"example {i}": name for i, name in enumerate(sorted(scores)[:3], start=1)}
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2]}
    worst = [name for name in reversed(ranked) if name not in chosen.values()][:WORST]
    return chosen | {f"worst {i}": name for i, name in enumerate(worst, start=1)}


def without_picture(
    folder: Path, images: Mapping[str, Counts], occurring: Sequence[int] | None = None
) -> list[str]:
    """Return the images whose small picture a report shows but is not in a progress `folder`."""
    scores = {name: summarize(counts.confusion, occurring).mean_iu for name, counts in images.items()}
    chosen = choose(scores)
    return [name for name in chosen.values() if not is_whole_picture(picture_path(folder, name))]


def prune_pictures(folder: Path, scores: DatasetScores) -> None:
    """Delete the small pictures in a progress `folder`, except the chosen ones."""
    kept = {path for _, _, path in scores.pictures}
    for path in folder.glob("pictures/**/*.jpg"):
        if path not in kept:
            path.unlink()
