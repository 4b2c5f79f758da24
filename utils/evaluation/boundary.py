"""Boundary IoU: the IoU of what is near edges of regions (Cheng et al., CVPR 2021, arXiv 2103.16562)."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.classes import IGNORE_LABEL
from utils.evaluation.metrics import PIXELS, sum_by

RATIO = 0.02  # of the image's diagonal, as in the paper
OUTSIDE = 254  # stands for what is not in the image


def band_width(height: int, width: int, ratio: float = RATIO) -> int:
    """Return the width in px of the bands in an image: `ratio` of its diagonal, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def band(label: Tensor, width: int) -> Tensor:
    """Return the pixels, bool (..., H, W), that are at most `width` px from the edge of their region.

    `label` is uint8 (..., H, W) below OUTSIDE, or 255. A pixel is in the band if the square of
    2 * width + 1 px around it holds another value or reaches out of the image. This is each class's mask
    without its erosion by that square, for all classes at once.
    """
    padded = F.pad(label, (width,) * 4, value=OUTSIDE)
    low, high = padded, padded
    for dim in (-1, -2):
        low = _over_windows(torch.minimum, low, 2 * width + 1, dim)
        high = _over_windows(torch.maximum, high, 2 * width + 1, dim)
    return low != high


def _over_windows(reduce: Callable[[Tensor, Tensor], Tensor], x: Tensor, size: int, dim: int) -> Tensor:
    """Reduce every window of `size` along `dim`, from windows of half the size: log2(size) steps."""
    length = 1
    while length < size:
        step = min(length, size - length)
        count = x.shape[dim] - step
        x = reduce(x.narrow(dim, 0, count), x.narrow(dim, step, count))
        length += step
    return x


def _by_class(classes: Tensor, inside: Tensor, num_classes: int) -> Tensor:
    """Count the pixels `inside` by their class: int64 (K,)."""
    cells = torch.where(inside, classes, num_classes).flatten()
    counts = [sum_by(part.long(), num_classes + 1)[:num_classes] for part in cells.split(PIXELS)]
    return torch.stack(counts).sum(0)


def boundary_ious(counts: Tensor) -> list[float]:
    """Return each class's intersection over union from counts (2, K); nan for a class without pixels."""
    both, union = counts.cpu().double()
    return (both / union).tolist()


def count_boundaries(label: Tensor, pred: Tensor, num_classes: int, ratio: float = RATIO) -> Tensor:
    """Count the pixels of each class's bands: int64 (2, K) of intersections and unions.

    `label` and `pred` are (..., H, W) with classes below 254. A pixel without a label belongs to no region,
    neither in the truth nor in the prediction: regions of both end there, as at the border of the image.
    """
    truth = label.to(pred.device).byte()
    known = truth < num_classes
    truth, found = (torch.where(known, x, IGNORE_LABEL) for x in (truth, pred.byte()))
    height, width = label.shape[-2:]
    px = band_width(height, width, ratio)
    near_truth, near_found = (band(x, px) & known for x in (truth, found))
    both, in_truth, in_found = (
        _by_class(x, inside, num_classes)
        for x, inside in (
            (truth, near_truth & near_found & (truth == found)),
            (truth, near_truth),
            (found, near_found),
        )
    )
    return torch.stack([both, in_truth + in_found - both])
