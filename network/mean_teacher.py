"""Self-training by augmentation consistency (DA-SAC: Araslanov and Roth, CVPR 2021, arXiv 2105.00097).

A teacher, the moving average of the student, labels several views of an unlabelled image; what they say is
fused in the image's own frame and taught to the student where it is confident. Legend: N views on this
process, K classes, H W pixels. Views of one image are neighbours, and a group of them may be spread over
processes; every process holds equally many.
"""

import copy

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from network.instance_whitening import float32_or_better
from utils import distributed
from utils.classes import IGNORE_LABEL

PRIOR_MOMENTUM = 0.99
BETA = 1e-3  # prior below which a class's threshold is lowered
CONF_UPPER, CONF_LOWER = 0.75, 0.2
FOCAL_POWER = 3


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move every weight and running statistic: teacher = momentum * teacher + (1 - momentum) * student."""
    new = student.state_dict()
    for key, old in teacher.state_dict().items():
        if old.is_floating_point():
            old.mul_(momentum).add_(new[key], alpha=1 - momentum)
        else:  # counts of batches
            old.copy_(new[key])


def warp(probs: Tensor, matrix: Tensor) -> Tensor:
    """Sample probs (N, K, H, W) where matrices (N, 2, 3) say, bilinear; zero beyond the edge."""
    with torch.autocast(probs.device.type, enabled=False):  # coordinates in half precision are whole px off
        grid = F.affine_grid(matrix.to(probs.dtype), list(probs.shape), align_corners=False)
        return F.grid_sample(probs, grid, padding_mode="zeros", align_corners=False)


def fuse(probs: Tensor, matrix: Tensor, inverse: Tensor, views: int) -> Tensor:
    """Replace each view's probs (N, K, H, W) by the average over the views of its image that see a pixel.

    The average is taken in the image's reference frame, which `matrix` (N, 2, 3) maps to the views'; zero
    where no view sees anything. Padding is marked by zeros in probs and does not count.
    """
    count = min(views, len(probs))  # of views of one image that are here
    sums = warp(probs, matrix).unflatten(0, (-1, count)).sum(1)
    if count < views:
        sums = sum_over_group(sums, views // count)
    fused = sums / sums.sum(1, keepdim=True).clamp(min=0.1)
    return warp(fused.repeat_interleave(count, 0), inverse)


def sum_over_group(sums: Tensor, parts: int) -> Tensor:
    """Sum (1, K, H, W) over `parts` neighbouring processes."""
    if not dist.is_initialized() or dist.get_world_size() % parts:
        raise ValueError(f"a group of views is spread over {parts} processes, no divisor of their number")
    everyone = sums.new_zeros(dist.get_world_size() // parts, *sums.shape[1:])
    group = slice(dist.get_rank() // parts, dist.get_rank() // parts + 1)
    everyone[group] = sums
    return distributed.differentiable_sum(everyone)[group]


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of `x` over processes."""
    return distributed.differentiable_sum(x) / distributed.world_size()


class ClassPrior(nn.Module):
    """How much of the target domain each class takes, (K,), as a moving average over batches."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.register_buffer("prior", torch.full((num_classes,), BETA, dtype=torch.float64))

    @torch.no_grad()
    def update(self, probs: Tensor) -> None:
        """Take in probs (N, K, H, W) of a batch, those of all processes.

        In the first batch a class of mean probability above 1e-8 takes that mean as it is. A class absent
        there has left BETA and, like all others, moves by a hundredth of the way to the mean of each batch.
        """
        mean = mean_over_processes(probs.mean((0, 2, 3))).to(self.prior.dtype)
        first = (self.prior == BETA) & (mean > 1e-8)
        self.prior.copy_(torch.where(first, mean, self.prior).lerp(mean, 1 - PRIOR_MOMENTUM))


def thresholds(confidence: Tensor, best: Tensor, prior: Tensor) -> Tensor:
    """Return the confidence (N, K) that a pixel must exceed, by view and class.

    It is a share of the highest confidence (of confidence (N, H, W)) among pixels whose likeliest class, in
    best (N, H, W), it is; less for classes of a low prior (K,), but at least CONF_LOWER.
    """
    peaks = confidence.new_zeros(len(best), len(prior))
    peaks.scatter_reduce_(1, best.flatten(1), confidence.flatten(1), "amax")
    return (peaks * CONF_UPPER * (1 - torch.exp(-prior / BETA))).clamp(min=CONF_LOWER)


def pseudo_label(probs: Tensor, prior: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels (N, H, W), 255 where not confident enough or not `valid`, and the confidence.

    probs: fused (N, K, H, W).
    """
    confidence, best = probs.max(1)
    least = thresholds(confidence, best, prior).gather(1, best.flatten(1)).view_as(confidence)
    return best.where((confidence > least) & valid, IGNORE_LABEL), confidence


def consistency_loss(
    logits: Tensor, label: Tensor, confidence: Tensor, prior: Tensor, published: bool = False
) -> Tensor:
    """Return the mean over all pixels of the teacher's confidence times the focal cross entropy.

    logits (N, K, H, W) are the student's; rare classes weigh more, (1 - prior)^3; pixels without a pseudo
    label add nothing to the sum.
    """
    weight = (1 - prior).to(logits.dtype) ** FOCAL_POWER
    loss = F.cross_entropy(logits, label, weight, ignore_index=IGNORE_LABEL, reduction="none")  # (N, H, W)
    if published:
        # NOTE(published): (N, H, W) times (N, 1, H, W) pairs every view's loss with every view's confidence;
        # see test_the_published_loss_pairs_all_views.
        return (loss.mean(0) * mean_over_processes(confidence.mean(0))).mean()
    return (loss * confidence).mean()


class SelfTraining(nn.Module):
    """The teacher, the class prior, and the loss of a batch of target views.

    `views` of one image make a group; `weight` is the loss's; the teacher follows the student by `momentum`
    every `update_every` batches and starts as its copy at the first.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int = 19,
        *,
        views: int = 4,
        weight: float = 5.0,
        momentum: float = 0.99,
        update_every: int = 100,
        published_loss: bool = False,
    ):
        super().__init__()
        self.teacher = copy.deepcopy(net).eval().requires_grad_(False)
        self.class_prior = ClassPrior(num_classes)
        self.views, self.weight, self.momentum, self.update_every = views, weight, momentum, update_every
        self.published_loss = published_loss
        self.batches = 0  # seen
        self.taught: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "SelfTraining":
        """Leave the teacher in eval mode, always."""
        return super().train(False)

    def prepare(self, net: nn.Module) -> None:
        """Hold the batch norms of `net`, in train mode, to their running statistics."""
        for module in batch_norms(net):
            module.eval()

    @torch.no_grad()
    def label(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fuse what the teacher says of a batch of views and turn it into pseudo labels.

        Returns the "student" views, "probs" (N, K, H, W), "label" and "confidence" (N, H, W). The prior takes
        the batch in before its thresholds are used.
        """
        probs = self.teacher(batch["teacher"]).logits
        probs = float32_or_better(probs).softmax(1) * batch["valid"][:, None]
        probs = fuse(probs, batch["matrix"], batch["inverse"], self.views)
        self.class_prior.update(probs)
        label, confidence = pseudo_label(probs, self.class_prior.prior, batch["valid"])
        return {"student": batch["student"], "probs": probs, "label": label, "confidence": confidence}

    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return {"target": the weighted loss of `model`, the student} of a batch of views, (N, ...) each.

        What the views were taught stays in `taught` until the next batch, for pictures.
        """
        if self.batches % self.update_every == 0:
            student = getattr(model, "module", model)
            update_teacher(self.teacher, student, self.momentum if self.batches else 0.0)
        self.batches += 1
        self.taught = self.label(batch)
        output = model(batch["student"])
        loss = consistency_loss(
            float32_or_better(output.logits),
            self.taught["label"],
            self.taught["confidence"],
            self.class_prior.prior,
            self.published_loss,
        )
        if output.aux_logits is not None:  # else its head had no gradient, which distributed training expects
            loss = loss + 0 * output.aux_logits.sum()
        return {"target": self.weight * loss}

    def kept(self) -> Tensor:
        """Return the share (K,) of each class's pixels in the last batch that had a label."""
        classes = len(self.class_prior.prior)
        sure, best = self.taught["probs"].max(1)
        best = best.where(sure > 0, classes)  # padding is no class
        labelled = best[self.taught["label"] != IGNORE_LABEL]
        counts = [pixels.flatten().bincount(minlength=classes + 1)[:classes] for pixels in (labelled, best)]
        labelled, everything = distributed.differentiable_sum(torch.stack(counts))
        return labelled / everything.clamp(min=1)

    def get_extra_state(self) -> dict:
        return {"batches": self.batches}

    def set_extra_state(self, state: dict) -> None:
        self.batches = state["batches"]


class NormAdaptation(nn.Module):
    """Adapt batch norm alone (Li et al., arXiv 1603.04779): target images pass in train mode, unlearnt."""

    teacher = None

    def prepare(self, net: nn.Module) -> None:
        """Change nothing: batch norm is what adapts."""

    @torch.no_grad()
    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Let the running statistics of `model`, in train mode, take in the views; return no loss."""
        getattr(model, "module", model)(batch["teacher"])
        return {}


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """Return the modules of `net` that normalize by statistics of batches."""
    return [module for module in net.modules() if getattr(module, "running_mean", None) is not None]


def freeze_batch_norm(net: nn.Module) -> None:
    """Stop the training of what batch norms of `net` learn."""
    for module in batch_norms(net):
        module.requires_grad_(False)
