"""Whether a network is right as often as it is sure (Guo et al., ICML 2017, arXiv 1706.04599)."""

from typing import NamedTuple

import torch
from torch import Tensor

from utils.evaluation.metrics import PIXELS, sum_by

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
    counts = torch.zeros(3, bins, dtype=torch.int64, device=pred.device)
    parts = (x.flatten().split(PIXELS) for x in (label, pred, confidence))
    for truth, found, sure in zip(*parts, strict=True):
        truth = truth.to(pred.device)
        whole = (sure.double() * ONE).round_().long().clamp_(0, ONE)
        bin_of = ((whole * bins + ONE - 1).div_(ONE, rounding_mode="floor") - 1).clamp_(min=0)
        known = (truth >= 0) & (truth < num_classes)
        cell = torch.where(known, bin_of, bins)  # one more cell for ignored labels
        for total, row in zip(counts, (torch.ones_like(whole), (truth == found).long(), whole), strict=True):
            total += sum_by(cell, bins + 1, row)[:bins]
    return counts


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
