"""Losses of the main and the auxiliary head: logits (B, K, H, W), labels (B, H, W) train ids, 255 ignored.

The whitening loss is `Whitening.loss` in network/instance_whitening.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.classes import CITYSCAPES, IGNORE_LABEL

CLASS_WEIGHTS = CITYSCAPES.weights


def cross_entropy(logits: Tensor, label: Tensor, class_weights: tuple[float, ...] | None = None) -> Tensor:
    """Return the (class-weighted) mean cross entropy over labelled pixels; 0 where none is labelled."""
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    total = F.cross_entropy(logits, label, weight, ignore_index=IGNORE_LABEL, reduction="sum")
    labelled = label != IGNORE_LABEL
    count = labelled.sum() if weight is None else (weight[label.where(labelled, 0)] * labelled).sum()
    return total / count.clamp(min=1e-6)


def share_weights(counts: Tensor, totals: Tensor, upper_bound: float) -> Tensor:
    """Return weights 1 + upper_bound * (1 - share) of classes that occur, 1 of others, shaped like counts."""
    return torch.where(counts > 0, 1 + upper_bound * (1 - counts / totals.clamp(min=1)), 1.0)


def one_hot(label: Tensor, num_classes: int, pad: int = 0) -> Tensor:
    """Return label as (B, K + 1, H, W) float, the last channel for ignored pixels and `pad` px around."""
    index = F.pad(label.where(label != IGNORE_LABEL, num_classes), (pad,) * 4, value=num_classes)
    return F.one_hot(index, num_classes + 1).permute(0, 3, 1, 2).float()


def image_weighted_cross_entropy(
    logits: Tensor, label: Tensor, upper_bound: float = 1.0, batch_weighting: bool = False
) -> Tensor:
    """Return the sum over images of the weighted-mean cross entropy, weighted against frequent classes.

    A class's share is taken over the labelled pixels of its image, or of the batch (`batch_weighting`).
    """
    hot = one_hot(label, logits.shape[1])[:, :-1].to(logits.dtype)
    counts = hot.sum((2, 3))  # (B, K)
    shares = counts.sum(0, keepdim=True).expand_as(counts) if batch_weighting else counts
    weights = share_weights(shares, shares.sum(1, keepdim=True), upper_bound)
    nll = -(F.log_softmax(logits, 1) * hot).sum((2, 3))  # (B, K)
    return ((weights * nll).sum(1) / (weights * counts).sum(1).clamp(min=1e-6)).sum()


def relaxed_label(label: Tensor, num_classes: int, strict_classes: tuple[int, ...] = ()) -> Tensor:
    """Return the multi-hot label (B, K + 1, H, W): every class in a pixel's 3x3 window (arXiv 1812.01593).

    Pixels of `strict_classes` keep their own class alone. The last channel: ignored or outside the image.
    """
    relaxed = F.max_pool2d(one_hot(label, num_classes, pad=1), 3, stride=1)
    if not strict_classes:
        return relaxed
    strict = torch.isin(label, torch.tensor(strict_classes, device=label.device))
    return torch.where(strict[:, None], one_hot(label, num_classes), relaxed)


def boundary(label: Tensor) -> Tensor:
    """Return (B, H, W) bool: pixels with a 4-neighbour of another label, on both sides of every boundary."""
    edge = torch.zeros_like(label, dtype=torch.bool)
    for dim in (1, 2):
        differs = label.diff(dim=dim) != 0
        edge.narrow(dim, 0, differs.shape[dim]).logical_or_(differs)
        edge.narrow(dim, 1, differs.shape[dim]).logical_or_(differs)
    return edge


def relaxed_cross_entropy(
    logits: Tensor,
    label: Tensor,
    upper_bound: float = 1.0,
    batch_weighting: bool = False,
    strict_classes: tuple[int, ...] = (),
    relaxed: bool = True,
) -> Tensor:
    """Return the boundary-relaxed, class-weighted cross entropy (arXiv 1812.01593, eq. 4).

    A pixel is right when the classes of its window together are likely. Not `relaxed`: one-hot labels, and
    pixels on a boundary count twice.
    """
    num_classes = logits.shape[1]
    hot = relaxed_label(label, num_classes, strict_classes) if relaxed else one_hot(label, num_classes)
    hot = hot.to(logits.dtype)
    counts = hot.sum((2, 3))  # (B, K + 1)
    shares = counts.sum(0, keepdim=True).expand_as(counts) if batch_weighting else counts
    weights = share_weights(shares[:, :-1], shares.sum(1, keepdim=True), upper_bound)
    t = hot[:, :-1]
    n = t.sum(1)  # (B, H, W)
    probs = logits.softmax(1)
    union = t * (probs * t).sum(1, keepdim=True)
    pixel = -(t * weights[:, :, None, None] * torch.maximum(probs, union).clamp(min=1e-30).log()).sum(
        1
    ) / n.clamp(min=1)
    if not relaxed:
        pixel = pixel * (1 + boundary(label))
    return (pixel.sum((1, 2)) / ((n > 0).sum((1, 2)) + 1)).mean()


class MainLoss:
    """The loss of the main head that the flags choose; called with logits, label and the iteration."""

    def __init__(
        self,
        *,
        class_weighted: bool = False,
        image_weighted: bool = False,
        relax_boundary: bool = False,
        upper_bound: float = 1.0,
        batch_weighting: bool = False,
        strict_classes: tuple[int, ...] = (),
        relax_off_iter: int = -1,
    ):
        self.class_weights = CLASS_WEIGHTS if class_weighted else None
        self.image_weighted = image_weighted
        self.relax_boundary = relax_boundary
        self.options = {"upper_bound": upper_bound, "batch_weighting": batch_weighting}
        self.strict_classes = strict_classes
        self.relax_off_iter = relax_off_iter

    def __call__(self, logits: Tensor, label: Tensor, iteration: int) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.relax_boundary:
            relaxed = not 0 <= self.relax_off_iter < iteration
            return relaxed_cross_entropy(
                logits, label, **self.options, strict_classes=self.strict_classes, relaxed=relaxed
            )
        if self.image_weighted:
            return image_weighted_cross_entropy(logits, label, **self.options)
        return cross_entropy(logits, label, self.class_weights)


def aux_cross_entropy(
    logits: Tensor, label: Tensor, class_weights: tuple[float, ...] | None = None
) -> Tensor:
    """Return the cross entropy of (B, K, h, w) logits and the label, nearest-resized to them."""
    label = F.interpolate(label[:, None].float(), size=logits.shape[-2:], mode="nearest")[:, 0].long()
    return cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), label, class_weights)
