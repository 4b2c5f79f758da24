"""What is counted on an image. Counts are integers, so their sums are the same in every order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.evaluation.boundary import count_boundaries
from utils.evaluation.calibration import count_confidences
from utils.evaluation.metrics import count_pixels


class Counts(NamedTuple):
    """Counts of the labelled pixels of one or several images, int64."""

    confusion: Tensor  # (K, K) by (truth, prediction)
    calibration: Tensor | None = None  # (3, bins), see calibration.count_confidences
    boundary: Tensor | None = None  # (2, K), see boundary.count_boundaries

    def cpu(self) -> "Counts":
        """Return the counts on the CPU."""
        others = (None if part is None else part.cpu() for part in self[1:])
        return Counts(self.confusion.cpu(), *others)


def total(images: Iterable[Counts], num_classes: int) -> Counts:
    """Return the sum over images that were measured alike."""
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    others: list[Tensor | None] = [None, None]
    for image in images:
        confusion += image.confusion
        for i, part in enumerate(image[1:]):
            before = others[i]
            others[i] = part if part is None or before is None else before + part
    return Counts(confusion, *others)


@dataclass(frozen=True)
class Measures:
    """What is measured besides the classes of pixels; 0 is not measured."""

    bins: int = 0  # of confidences, for the calibration
    ratio: float = 0.0  # of the image's diagonal: the width of the bands of the boundary IoU

    def to_dict(self) -> dict[str, Any]:
        """Return what is measured, by flag."""
        every = {"calibration": self.bins, "boundary_iou": self.ratio}
        return {flag: value for flag, value in every.items() if value}

    def describe(self, mode: str) -> dict[str, str]:
        """Say in words what is measured, by title; `mode` is one of inference.MODES."""
        probability = {
            "pooling": "averaged softmax probability",
            "sliding": "softmax probability of the averaged logits",
        }.get(mode, "softmax probability")
        words = {}
        if self.ratio:
            words["boundary IoU"] = f"of bands along edges, {100 * self.ratio:g}% of the diagonal wide"
        if self.bins:
            words["ECE"] = f"expected calibration error, {self.bins} bins of the {probability}"
        return words

    @property
    def metrics(self) -> list[str]:
        """The names of what is measured among scores.METRICS."""
        return ["boundary_iou"] * bool(self.ratio) + ["ece"] * bool(self.bins)

    def count(self, label: Tensor, pred: Tensor, confidence: Tensor | None, num_classes: int) -> Counts:
        """Count the pixels of labels and predictions (..., H, W); the calibration needs their confidence."""
        confusion, _ = count_pixels(label, pred, num_classes)
        calibration = boundary = None
        if self.bins and confidence is not None:
            calibration = count_confidences(label, pred, confidence, num_classes, self.bins)
        if self.ratio:
            boundary = count_boundaries(label, pred, num_classes, self.ratio)
        return Counts(confusion, calibration, boundary)
