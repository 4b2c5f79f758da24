"""Scores of a segmentation, from pixels counted exactly on the device that predicts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from utils import distributed

LANES = 64
PIXELS = 2**24  # counted at once


class Summary(NamedTuple):
    """Scores in [0, 1]; per-class lists are indexed by train id, nan where a score is not defined."""

    mean_iu: float  # mean IoU over `averaged`
    iou: list[float]  # TP / (TP + FP + FN); nan for a class in neither prediction nor truth
    acc: float  # fraction of the labelled pixels that are right
    acc_cls: float  # mean recall over the classes in the truth
    fwavacc: float  # IoU weighted by the class's fraction of the labelled pixels
    precision: list[float]  # TP / (TP + FP); nan for a class never predicted
    recall: list[float]  # TP / (TP + FN); nan for a class not in the truth
    present: list[int]  # classes in the prediction or in the truth
    averaged: list[int]  # classes of the dataset among `present`


class ConfusionMatrix:
    """Counts pixels by (true class, predicted class) in int64; sums over images and processes are exact.

    `counts` (K, K) has the truth in rows and the prediction in columns. It is on the predictions' device.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.invalid = torch.zeros((), dtype=torch.int64)  # pixels predicted as no class at all

    def update(self, label: Tensor, pred: Tensor) -> None:
        """Count the pixels of two integer tensors of one shape; labels outside [0, K) (255) are ignored.

        The host does not wait for the device, so only `summary` raises an error for a `pred` outside [0, K).
        Raises ValueError if the shapes differ.
        """
        counts, invalid = count_pixels(label, pred, self.num_classes)
        self.counts = self.counts.to(pred.device) + counts
        self.invalid = self.invalid.to(pred.device) + invalid

    def all_reduce(self) -> None:
        """Sum over all processes. Each calls this once, after its last update, even if it had no image."""
        if dist.is_initialized() and dist.get_backend() == "nccl":
            # The counts are still on the CPU if this process had no image.
            self.counts, self.invalid = self.counts.cuda(), self.invalid.cuda()
        distributed.sum_in_place(self.counts)
        distributed.sum_in_place(self.invalid)

    def summary(self, classes: Sequence[int] | None = None) -> Summary:
        """Return the scores over `classes`, as `summarize`; ValueError if a prediction was outside [0, K)."""
        if self.invalid:
            last = self.num_classes - 1
            raise ValueError(f"{self.invalid} pixels were predicted as no class; expected 0 to {last}")
        return summarize(self.counts, classes)


def summarize(counts: Tensor, classes: Sequence[int] | None = None) -> Summary:
    """Score counts (K, K) by (truth, prediction) in float64. All scores are nan if no pixel was labelled.

    `classes` are those that occur in the dataset, by default all. Another class has no IoU in the mean, but
    pixels that are predicted as it are missed pixels of their true class.
    """
    counts = counts.cpu().double()
    right, truth, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    union = truth + predicted - right
    iou, recall = right / union, right / truth  # 0 / 0 = nan
    present = union.nonzero().flatten().tolist()
    averaged = present if classes is None else [k for k in present if k in set(classes)]
    return Summary(
        mean_iu=iou[averaged].mean().item(),
        iou=iou.tolist(),
        acc=(right.sum() / truth.sum()).item(),
        acc_cls=recall.nanmean().item(),
        fwavacc=(truth / truth.sum() * iou).nansum().item() if truth.any() else float("nan"),
        precision=(right / predicted).tolist(),
        recall=recall.tolist(),
        present=present,
        averaged=averaged,
    )


def count_pixels(label: Tensor, pred: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return int64 counts (K, K) by (truth, prediction) and the number of predictions outside [0, K).

    Raises ValueError if the shapes of the two differ.
    """
    if label.shape != pred.shape:
        raise ValueError(f"label is {tuple(label.shape)}, pred {tuple(pred.shape)}; expected one shape")
    parts = [
        _count(truth.to(pred.device, torch.int64), found.long(), num_classes)
        for truth, found in zip(label.flatten().split(PIXELS), pred.flatten().split(PIXELS), strict=True)
    ]
    counts, invalid = zip(*parts, strict=True)
    return torch.stack(counts).sum(0), torch.stack(invalid).sum(0)


def _count(label: Tensor, pred: Tensor, k: int) -> tuple[Tensor, Tensor]:
    cell = torch.where((label >= 0) & (label < k), label * k + pred, k * k)  # a cell for ignored labels
    cell = torch.where((pred >= 0) & (pred < k), cell, k * k + 1)  # and one for impossible predictions
    counts = sum_by(cell, k * k + 2)
    return counts[: k * k].view(k, k), counts[-1]


def sum_by(cell: Tensor, cells: int, values: Tensor | None = None) -> Tensor:
    """Return int64 sums (cells,) of `values`, by default ones, over the entries of each cell.

    `cell` and `values` are int64 (n,), and the sums are below 2**53. The host does not wait for the device.
    """
    if cell.is_cuda:  # bincount would wait for the device; several rows keep atomic additions apart
        lane = torch.arange(len(cell), device=cell.device) % LANES
        sums = cell.new_zeros(LANES, cells)
        added = torch.ones_like(cell) if values is None else values
        sums.view(-1).scatter_add_(0, lane * cells + cell, added)
        return sums.sum(0)
    if values is None:
        return torch.bincount(cell, minlength=cells)
    return torch.bincount(cell, values.double(), cells).long()  # float64 is exact for these integers


def mean_over(scores: Sequence[float], classes: Sequence[int]) -> float:
    """Return the mean of the scores of `classes` that are not nan; nan if all are."""
    return torch.tensor([scores[k] for k in classes], dtype=torch.float64).nanmean().item()
