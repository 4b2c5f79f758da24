"""Whether a network is right as often as it is sure (Guo et al., ICML 2017, arXiv 1706.04599)."""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.evaluation.metrics import sum_by

BINS = 15  # as in the paper
ONE = 2**24  # the integer for confidence 1: sums of integers are the same in every order


class Bin(NamedTuple):
    """The labelled pixels whose confidence is in (low, high]."""

    low: float
    high: float
    pixels: int
    accuracy: float  # share of the pixels that are right; nan without pixels
    confidence: float  # their mean confidence; nan without pixels


def confidence_of(scores: Tensor, dim: int, probabilities: bool = False) -> Tensor:
    """Return the highest softmax probability along `dim` of logits, or of `probabilities` themselves."""
    highest = scores.amax(dim)
    return highest if probabilities else highest.sub_(scores.logsumexp(dim)).exp_()


def count_confidences(
    label: Tensor, pred: Tensor, confidence: Tensor, num_classes: int, bins: int = BINS
) -> Tensor:
    """Count the labelled pixels by confidence: int64 (3, bins) on the device of `pred`.

    The rows are the pixels, those that are right, and the sum of their confidences times ONE. The tensors
    have one shape. Confidences are in [0, 1]; bin m of 1..bins holds those in ((m - 1) / bins, m / bins].
    """
    label, pred = label.flatten().to(pred.device), pred.flatten()
    whole = (confidence.flatten().double() * ONE).round_().long().clamp_(0, ONE)
    bin_of = ((whole * bins + ONE - 1).div_(ONE, rounding_mode="floor") - 1).clamp_(min=0)
    cell = torch.where((label >= 0) & (label < num_classes), bin_of, bins)  # one more cell for ignored labels
    rows = torch.ones_like(whole), (label == pred).long(), whole
    return torch.stack([sum_by(cell, bins + 1, row)[:bins] for row in rows])


def reliability(counts: Tensor) -> list[Bin]:
    """Return the bins of a reliability diagram from counts (3, bins)."""
    pixels, right, sums = counts.cpu().double()
    accuracy, confidence = (right / pixels).tolist(), (sums / ONE / pixels).tolist()  # 0 / 0 = nan
    edges = [m / len(pixels) for m in range(len(pixels) + 1)]
    number = [int(n) for n in pixels]
    return [Bin(*one) for one in zip(edges, edges[1:], number, accuracy, confidence, strict=False)]


def expected_calibration_error(counts: Tensor) -> float:
    """Return the mean gap of accuracy and confidence, weighted by the bins' pixels (equation 3), in [0, 1].

    `counts` are (3, bins) of `count_confidences`. Without pixels it is nan.
    """
    pixels, right, sums = counts.cpu().double()
    return ((right - sums / ONE).abs().sum() / pixels.sum()).item()
