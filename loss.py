"""Losses of the main and the auxiliary head: logits (B, K, H, W), labels (B, H, W) train ids, 255 ignored.

The whitening loss is `Whitening.loss` in network/instance_whitening.py.
"""

from argparse import Namespace
from collections.abc import Collection, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from utils import distributed
from utils.classes import IGNORE_LABEL, ClassTable
from utils.errors import UserError
from utils.precision import float32_or_better

Weights = Sequence[float] | Tensor | None  # one per class
AUX_WEIGHT = 0.4  # of the auxiliary head's loss (arXiv 2103.15597)


def cross_entropy(
    logits: Tensor,
    label: Tensor,
    class_weights: Weights = None,
    all_pixels: bool = False,
    joint: bool = False,
) -> Tensor:
    """Return the (class-weighted) mean cross entropy over the labelled pixels; 0 if no pixel is labelled.

    With `all_pixels` the sum over the labelled pixels is divided by the number of all pixels, which DA-SAC
    was published with (arXiv 2105.00097). With `joint`, which all processes must ask for, the mean of their
    losses is the one over the labelled pixels of all of them.
    """
    weight = None
    if class_weights is not None:
        weight = torch.as_tensor(class_weights, dtype=logits.dtype, device=logits.device)
    # On a GPU the kernel of reduction="sum" adds in any order, so --deterministic adds up the pixels itself.
    exact = logits.is_cuda and torch.are_deterministic_algorithms_enabled()
    reduction = "none" if exact else "sum"
    total = F.cross_entropy(logits, label, weight, ignore_index=IGNORE_LABEL, reduction=reduction)
    if exact:
        total = total.sum()
    if all_pixels:
        return total / label.numel()
    labelled = label != IGNORE_LABEL
    count = labelled.sum() if weight is None else (weight[label.where(labelled, 0)] * labelled).sum()
    if joint:
        count = (distributed.sum_in_place(count).double() / distributed.world_size()).to(total.dtype)
    return total / count.clamp(min=1e-6)


def share_weights(counts: Tensor, totals: Tensor, upper_bound: float) -> Tensor:
    """Return weights like counts: 1 + upper_bound * (1 - share) for classes that occur, 1 for the others."""
    return torch.where(counts > 0, 1 + upper_bound * (1 - counts / totals.clamp(min=1)), 1.0)


def batch_counts(counts: Tensor) -> Tensor:
    """Return counts (B, K) of images as those of the whole batch of all processes, for each image."""
    return distributed.sum_in_place(counts.sum(0, keepdim=True)).expand_as(counts)


def one_hot(label: Tensor, num_classes: int, pad: int = 0) -> Tensor:
    """Return label as (B, K + 1, H, W) float; the last channel marks ignored pixels and a `pad` px border."""
    index = F.pad(label.where(label != IGNORE_LABEL, num_classes), (pad,) * 4, value=num_classes)
    classes = torch.arange(num_classes + 1, device=label.device)[:, None, None]
    return (index[:, None] == classes).float()


def image_weighted_cross_entropy(
    logits: Tensor, label: Tensor, upper_bound: float = 1.0, batch_weighting: bool = False
) -> Tensor:
    """Return the sum over images of the weighted-mean cross entropy, weighted against frequent classes.

    A class's share is taken over the labelled pixels of its image, or of the batch of all processes
    (`batch_weighting`).
    """
    hot = one_hot(label, logits.shape[1])[:, :-1].to(logits.dtype)
    counts = hot.sum((2, 3))  # (B, K)
    shares = batch_counts(counts) if batch_weighting else counts
    weights = share_weights(shares, shares.sum(1, keepdim=True), upper_bound)
    nll = -(F.log_softmax(logits, 1) * hot).sum((2, 3))  # (B, K)
    return ((weights * nll).sum(1) / (weights * counts).sum(1).clamp(min=1e-6)).sum()


def relaxed_label(label: Tensor, num_classes: int, strict_classes: Collection[int] = ()) -> Tensor:
    """Return the multi-hot label (B, K + 1, H, W): every class in a pixel's 3x3 window (arXiv 1812.01593).

    Pixels of `strict_classes` keep only their own class. The last channel marks pixels that are ignored or
    outside the image.
    """
    relaxed = F.max_pool2d(one_hot(label, num_classes, pad=1), 3, stride=1)
    if not strict_classes:
        return relaxed
    strict = torch.stack([label == train_id for train_id in strict_classes]).any(0)
    return torch.where(strict[:, None], one_hot(label, num_classes), relaxed)


def boundary(label: Tensor) -> Tensor:
    """Return (B, H, W) bool: pixels with a 4-neighbour of another label (both sides of each boundary)."""
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
    strict_classes: Collection[int] = (),
    relaxed: bool = True,
) -> Tensor:
    """Return the boundary-relaxed, class-weighted cross entropy (arXiv 1812.01593, eq. 4).

    The loss of a pixel is low if the classes of its window are likely together. If not `relaxed`, labels are
    one-hot and pixels on a boundary count twice.
    """
    num_classes = logits.shape[1]
    hot = relaxed_label(label, num_classes, strict_classes) if relaxed else one_hot(label, num_classes)
    hot = hot.to(logits.dtype)
    counts = hot.sum((2, 3))  # (B, K + 1)
    shares = batch_counts(counts) if batch_weighting else counts
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
    """The loss of the main head that the flags choose; called with logits, label and the iteration.

    The default is `cross_entropy`, with `class_weights` if given. `image_weighted` chooses
    `image_weighted_cross_entropy`, `relax_boundary` chooses `relaxed_cross_entropy`; `upper_bound` and
    `batch_weighting` are options of both. `strict_classes` are not relaxed. The relaxation ends after
    iteration `relax_off_iter` unless that is negative. `all_pixels` is an option of `cross_entropy`.
    """

    def __init__(
        self,
        *,
        class_weights: Weights = None,
        image_weighted: bool = False,
        relax_boundary: bool = False,
        upper_bound: float = 1.0,
        batch_weighting: bool = False,
        strict_classes: Collection[int] = (),
        relax_off_iter: int = -1,
        all_pixels: bool = False,
    ) -> None:
        self.class_weights = class_weights
        self.image_weighted = image_weighted
        self.relax_boundary = relax_boundary
        self.upper_bound = upper_bound
        self.batch_weighting = batch_weighting
        self.strict_classes = strict_classes
        self.relax_off_iter = relax_off_iter
        self.all_pixels = all_pixels

    def relaxes(self, iteration: int) -> bool:
        """Whether labels at boundaries are relaxed at an iteration."""
        return self.relax_boundary and not 0 <= self.relax_off_iter < iteration

    def __call__(self, logits: Tensor, label: Tensor, iteration: int) -> Tensor:
        """Return the loss of logits (B, K, H, W), a scalar in float32 or better."""
        logits = float32_or_better(logits)
        if self.relax_boundary:
            return relaxed_cross_entropy(
                logits,
                label,
                self.upper_bound,
                self.batch_weighting,
                self.strict_classes,
                relaxed=self.relaxes(iteration),
            )
        if self.image_weighted:
            return image_weighted_cross_entropy(logits, label, self.upper_bound, self.batch_weighting)
        return cross_entropy(logits, label, self.class_weights, self.all_pixels, joint=True)


class Output(Protocol):
    """The part of network.SegOutput that the losses read."""

    @property
    def logits(self) -> Tensor:
        """(B, K, H, W)."""

    @property
    def aux_logits(self) -> Tensor | None:
        """(B, K, h, w) of the auxiliary head, if the network has one and is in train mode."""


class HeadLosses:
    """The losses of both heads; called with the network's output, the label and the iteration."""

    def __init__(self, main: MainLoss, aux_weight: float = AUX_WEIGHT) -> None:
        self.main, self.aux_weight = main, aux_weight

    def phase(self, iteration: int) -> int:
        """Return an iteration at which the losses are computed as at `iteration`: always the same."""
        return 0 if self.main.relaxes(iteration) == self.main.relaxes(0) else self.main.relax_off_iter + 1

    def to(self, device: torch.device) -> "HeadLosses":
        """Move the weights of the classes to a device."""
        if self.main.class_weights is not None:
            self.main.class_weights = torch.as_tensor(self.main.class_weights, device=device)
        return self

    def __call__(self, output: Output, label: Tensor, iteration: int) -> dict[str, Tensor]:
        """Return the scalars {"main"} and, with an auxiliary head, {"aux"}; their sum is to be minimized."""
        losses = {"main": self.main(output.logits, label, iteration)}
        if output.aux_logits is not None:
            options = self.main.class_weights, self.main.all_pixels
            aux = aux_cross_entropy(output.aux_logits, label, *options)
            losses["aux"] = self.aux_weight * aux
        return losses


def get_loss(args: Namespace, classes: ClassTable) -> HeadLosses:
    """Return the losses of the main and the auxiliary head that the flags choose."""
    if args.cls_wt_loss and not classes.weights:
        raise UserError("--cls_wt_loss: these datasets have no fixed class weights; use --img_wt_loss")
    main_loss = MainLoss(
        class_weights=classes.weights if args.cls_wt_loss else None,
        image_weighted=args.img_wt_loss,
        relax_boundary=args.jointwtborder,
        upper_bound=args.wt_bound,
        batch_weighting=args.batch_weighting,
        strict_classes=args.strict_classes,
        relax_off_iter=args.rlx_off_iter,
        all_pixels=args.loss_over == "all",
    )
    return HeadLosses(main_loss)


def aux_cross_entropy(
    logits: Tensor, label: Tensor, class_weights: Weights = None, all_pixels: bool = False
) -> Tensor:
    """Return the cross entropy of logits (B, K, h, w) and the label, resized to them by nearest neighbour."""
    label = F.interpolate(label[:, None].float(), size=logits.shape[-2:], mode="nearest")[:, 0].long()
    return cross_entropy(float32_or_better(logits), label, class_weights, all_pixels, joint=True)
