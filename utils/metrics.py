"""Scores of a segmentation from one confusion matrix, counted exactly on the device that predicts."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from utils import distributed


class Summary(NamedTuple):
    """Scores in [0, 1]; per-class lists are indexed by class, nan where nothing can be said."""

    mean_iu: float  # mean IoU over `present`
    iou: list[float]  # TP / (TP + FP + FN); nan for a class in neither prediction nor truth
    acc: float  # share of the labelled pixels that are right
    acc_cls: float  # mean recall over the classes in the truth
    fwavacc: float  # IoU weighted by the class's share of the labelled pixels
    precision: list[float]  # TP / (TP + FP); nan for a class never predicted
    recall: list[float]  # TP / (TP + FN); nan for a class not in the truth
    present: list[int]  # classes in the prediction or in the truth


class ConfusionMatrix:
    """Count pixels by (true class, predicted class) in int64; the sums over images and processes are exact.

    `counts` (K, K) has the truth in rows and the prediction in columns; it lives where the predictions do.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, label: Tensor, pred: Tensor) -> None:
        """Add two integer tensors of one shape; pixels whose label is outside [0, K), so 255, are ignored.

        Raises ValueError if the shapes differ or `pred` leaves [0, K) anywhere.
        """
        k = self.num_classes
        if label.shape != pred.shape:
            raise ValueError(f"label is {tuple(label.shape)}, pred {tuple(pred.shape)}; they must be alike")
        if pred.numel() == 0:
            return
        low, high = torch.stack(pred.aminmax()).tolist()
        if low < 0 or high >= k:
            raise ValueError(f"pred holds classes {low} to {high}; expected 0 to {k - 1}")
        label, pred = label.to(pred.device, torch.int64).flatten(), pred.long().flatten()
        labelled = (label >= 0) & (label < k)
        cell = torch.where(labelled, label * k + pred, k * k)  # one more cell takes what is ignored
        counts = torch.bincount(cell, minlength=k * k + 1)[:-1].view(k, k)
        self.counts = self.counts.to(pred.device) + counts

    def all_reduce(self) -> None:
        """Sum over all processes, those that saw no image included. Call it once, after the last update."""
        if dist.is_initialized() and dist.get_backend() == "nccl":
            self.counts = self.counts.cuda()  # still on the CPU if this process had no image
        distributed.all_reduce_sum(self.counts)

    def summary(self) -> Summary:
        """Score what was counted, in float64; every score is nan if no pixel was labelled."""
        counts = self.counts.cpu().double()
        right, truth, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        union = truth + predicted - right
        iou, recall = right / union, right / truth  # 0 / 0 = nan
        return Summary(
            mean_iu=iou.nanmean().item(),
            iou=iou.tolist(),
            acc=(right.sum() / truth.sum()).item(),
            acc_cls=recall.nanmean().item(),
            fwavacc=(truth / truth.sum() * iou).nansum().item() if truth.any() else float("nan"),
            precision=(right / predicted).tolist(),
            recall=recall.tolist(),
            present=union.nonzero().flatten().tolist(),
        )

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Replace the counts; ValueError if they are of another number of classes."""
        if state["counts"].shape != self.counts.shape:
            raise ValueError(f"{tuple(state['counts'].shape)} counts; expected {tuple(self.counts.shape)}")
        self.counts = state["counts"].to(self.counts.device, torch.int64, copy=True)
