"""Self-training by augmentation consistency (DA-SAC: Araslanov and Roth, CVPR 2021, arXiv 2105.00097).

A teacher, the moving average of the student, predicts several views of an unlabelled image. Its predictions
are fused in the image's own frame. Where they are confident they become pseudo labels for the student. The
method is section 3 of the paper.

Legend: N views on this process, K classes, H W pixels. The views of one image are neighbours in the batch.
They may be spread over several processes; every process holds the same number.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import distributed
from utils.classes import IGNORE_LABEL
from utils.errors import UserError
from utils.precision import float32_or_better

# The published settings with a ResNet-101, which are also the defaults of the flags.
PRIOR_MOMENTUM = 0.99
BETA = 1e-3  # a class's threshold is lowered where its prior is near this or below
CONF_UPPER, CONF_LOWER = 0.75, 0.2  # see `thresholds`
FOCAL_POWER = 3.0


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Set every weight and running statistic to momentum * teacher + (1 - momentum) * student.

    Counts of batches are copied.
    """
    new = student.state_dict()
    for key, old in teacher.state_dict().items():
        if old.is_floating_point():
            old.mul_(momentum).add_(new[key], alpha=1 - momentum)
        else:
            old.copy_(new[key])


def resample_probs(probs: Tensor, matrix: Tensor) -> Tensor:
    """Sample probs (N, K, H, W) at the coordinates that matrices (N, 2, 3) give, bilinear; zero outside.

    `transforms.similarity.warp` does the same for images, and also returns which pixels are inside.
    """
    with torch.autocast(probs.device.type, enabled=False):  # in half precision coordinates are off by pixels
        grid = F.affine_grid(matrix.to(probs.dtype), list(probs.shape), align_corners=False)
        return F.grid_sample(probs, grid, padding_mode="zeros", align_corners=False)


def fuse(probs: Tensor, matrix: Tensor, inverse: Tensor, views: int) -> Tensor:
    """Return for each view the average of probs (N, K, H, W) over all views of its image that see the pixel.

    The average is taken in the image's reference frame, which `matrix` (N, 2, 3) maps to the views' frames
    and `inverse` maps back. It is zero where no view sees the image. Padding has zeros in probs and does not
    count.
    """
    count = min(views, len(probs))  # views of one image on this process
    sums = resample_probs(probs, matrix).unflatten(0, (-1, count)).sum(1)
    if count < views:
        sums = sum_over_group(sums, views // count)
    seen = sums.sum(1, keepdim=True)  # by how many views; a fraction at the border of a view
    fused = sums / seen.clamp(min=0.1)
    return resample_probs(fused.repeat_interleave(count, 0), inverse)


def sum_over_group(sums: Tensor, parts: int) -> Tensor:
    """Sum (1, K, H, W) over `parts` neighbouring processes."""
    if distributed.world_size() == 1 or distributed.world_size() % parts:
        raise UserError(
            f"the --sac_views of one image are spread over {parts} processes, which must divide the number "
            f"of processes, {distributed.world_size()}"
        )
    everyone = sums.new_zeros(distributed.world_size() // parts, *sums.shape[1:])
    index = distributed.rank() // parts
    group = slice(index, index + 1)
    everyone[group] = sums
    return distributed.differentiable_sum(everyone)[group]


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of `x` over processes."""
    return distributed.differentiable_sum(x) / distributed.world_size()


class ClassPrior(nn.Module):
    """The fraction of the target domain's pixels that each class covers, (K,), as a moving average."""

    prior: Tensor

    def __init__(self, num_classes: int, momentum: float = PRIOR_MOMENTUM, beta: float = BETA) -> None:
        super().__init__()
        self.momentum, self.beta = momentum, beta
        self.register_buffer("prior", torch.full((num_classes,), beta, dtype=torch.float64))

    @torch.no_grad()
    def update(self, probs: Tensor) -> None:
        """Move the prior towards the mean of probs (N, K, H, W) over pixels, views and processes.

        A class still at `beta`, its start, whose mean is above 1e-8 is first set to that mean. Then all
        classes move by 1 - `momentum` of the way, so that one absent from the first batch is not at `beta`.
        """
        mean = mean_over_processes(probs.mean((0, 2, 3))).to(self.prior.dtype)
        first = (self.prior == self.beta) & (mean > 1e-8)
        self.prior.copy_(torch.where(first, mean, self.prior).lerp(mean, 1 - self.momentum))


def thresholds(
    confidence: Tensor,
    best: Tensor,
    prior: Tensor,
    *,
    upper: float = CONF_UPPER,
    lower: float = CONF_LOWER,
    beta: float = BETA,
) -> Tensor:
    """Return the confidence (N, K) that a pixel must exceed to be labelled.

    Per view and class: `upper` times the highest confidence (N, H, W) of the pixels predicted as that class
    in `best` (N, H, W), scaled down for rare classes by 1 - exp(-prior / beta), never below `lower`.
    """
    peaks = confidence.new_zeros(len(best), len(prior))
    peaks.scatter_reduce_(1, best.flatten(1), confidence.flatten(1), "amax")
    return (peaks * upper * (1 - torch.exp(-prior / beta))).clamp(min=lower)


def pseudo_label(probs: Tensor, prior: Tensor, valid: Tensor, **options: float) -> tuple[Tensor, Tensor]:
    """Return the pseudo labels and the confidence, both (N, H, W), of fused probs (N, K, H, W).

    A pixel has label 255 if its confidence is not above its threshold or it is not `valid`. `options` are
    those of `thresholds`.
    """
    confidence, best = probs.max(1)
    least = thresholds(confidence, best, prior, **options).gather(1, best.flatten(1)).view_as(confidence)
    return best.where((confidence > least) & valid, IGNORE_LABEL), confidence


def consistency_loss(
    logits: Tensor,
    label: Tensor,
    confidence: Tensor,
    prior: Tensor,
    published: bool = False,
    focal_power: float = FOCAL_POWER,
) -> Tensor:
    """Return the mean over all pixels of the teacher's confidence times the class-weighted cross entropy.

    logits (N, K, H, W) are the student's. Class weights are (1 - prior)^focal_power, so rare classes weigh
    more. Pixels without a pseudo label contribute 0.
    """
    weight = (1 - prior).to(logits.dtype) ** focal_power
    loss = F.cross_entropy(logits, label, weight, ignore_index=IGNORE_LABEL, reduction="none")  # (N, H, W)
    if published:  # --sac_published_loss
        # NOTE(published): (N, H, W) times (N, 1, H, W) pairs every view's loss with every view's confidence;
        # see test_the_published_loss_pairs_all_views.
        return (loss.mean(0) * mean_over_processes(confidence.mean(0))).mean()
    return (loss * confidence).mean()


class SelfTraining(nn.Module):
    """The teacher, the class prior, and the loss of a batch of target views.

    Each image has `views` views. The loss is multiplied by `weight`. The teacher starts as a copy of the
    student at the first batch, and moves towards it by 1 - `momentum` every `update_every` batches.
    `conf_upper`, `conf_lower` and `beta` make the thresholds, `prior_momentum` moves the class prior, and
    `focal_power` makes the class weights of the loss.
    """

    has_loss = True

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        *,
        views: int = 4,
        weight: float = 5.0,
        momentum: float = 0.99,
        update_every: int = 100,
        conf_upper: float = CONF_UPPER,
        conf_lower: float = CONF_LOWER,
        beta: float = BETA,
        prior_momentum: float = PRIOR_MOMENTUM,
        focal_power: float = FOCAL_POWER,
        published_loss: bool = False,
    ) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(net).eval().requires_grad_(False)
        self.class_prior = ClassPrior(num_classes, prior_momentum, beta)
        self.thresholds = {"upper": conf_upper, "lower": conf_lower, "beta": beta}
        self.views, self.weight, self.momentum, self.update_every = views, weight, momentum, update_every
        self.published_loss, self.focal_power = published_loss, focal_power
        self.batches = 0  # of target views so far
        self.labelled_views: dict[str, Tensor] = {}  # of the last batch, see `label_views`

    def train(self, mode: bool = True) -> "SelfTraining":
        """Keep the teacher in eval mode."""
        return super().train(False)

    def prepare(self, net: nn.Module) -> None:
        """Set the batch norms of `net` to eval mode: their statistics stay, their weights are trained."""
        for module in batch_norms(net):
            module.eval()

    @torch.no_grad()
    def label_views(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fuse the teacher's predictions for a batch of views and derive pseudo labels.

        Returns the "student" views, "probs" (N, K, H, W), "pseudo_label" and "confidence" (N, H, W). The
        class prior is updated with the teacher's probabilities of every view, padding included. Then padding
        is set to zero and the views are fused. The thresholds are those of the updated prior.
        """
        probs = float32_or_better(self.teacher(batch["teacher"]).logits).softmax(1)
        self.class_prior.update(probs)
        probs = probs * batch["valid"][:, None]
        probs = fuse(probs, batch["matrix"], batch["inverse"], self.views)
        label, confidence = pseudo_label(probs, self.class_prior.prior, batch["valid"], **self.thresholds)
        return {"student": batch["student"], "probs": probs, "pseudo_label": label, "confidence": confidence}

    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Advance the teacher; return {"target": weighted loss} of the student for views, (N, ...) each.

        `labelled_views` holds the pseudo labels until the next batch.
        """
        self.advance_teacher(getattr(model, "module", model))
        self.labelled_views = self.label_views(batch)
        output = model(batch["student"])
        loss = consistency_loss(
            float32_or_better(output.logits),
            self.labelled_views["pseudo_label"],
            self.labelled_views["confidence"],
            self.class_prior.prior,
            self.published_loss,
            self.focal_power,
        )
        if output.aux_logits is not None:  # distributed training expects a gradient for every parameter
            loss = loss + 0 * output.aux_logits.sum()
        return {"target": self.weight * loss}

    def advance_teacher(self, student: nn.Module) -> None:
        """Copy the student at the first batch of views, then move towards it every `update_every` batches."""
        if self.batches % self.update_every == 0:
            update_teacher(self.teacher, student, self.momentum if self.batches else 0.0)
        self.batches += 1

    def labelled_share(self) -> Tensor:
        """Return the share (K,) of the pixels predicted as each class in the last batch that is labelled."""
        classes = len(self.class_prior.prior)
        confidence, pred = self.labelled_views["probs"].max(1)
        pred = pred.where(confidence > 0, classes)  # padding has no class
        labelled = pred[self.labelled_views["pseudo_label"] != IGNORE_LABEL]
        counts = [pixels.flatten().bincount(minlength=classes + 1)[:classes] for pixels in (labelled, pred)]
        labelled_count, count = distributed.sum_in_place(torch.stack(counts))
        return labelled_count / count.clamp(min=1)

    def get_extra_state(self) -> dict[str, int]:
        return {"batches": self.batches}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.batches = state["batches"]


class NormAdaptation(nn.Module):
    """Adapt only batch norm (Li et al., arXiv 1603.04779): its statistics also see target images."""

    has_loss = False
    teacher = None

    def prepare(self, net: nn.Module) -> None:
        """Leave `net` as it is: its batch norms must stay in train mode."""

    @torch.no_grad()
    def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Update the running statistics of `model`, in train mode, with the views; return no loss."""
        getattr(model, "module", model)(batch["teacher"])
        return {}


def batch_norms(net: nn.Module) -> list[nn.Module]:
    """Return the modules of `net` that have running statistics of batches."""
    return [module for module in net.modules() if getattr(module, "running_mean", None) is not None]
