"""Instance whitening: the layer, the masks of IW, IRW and ISW, and their loss.

Choi, Jung et al., "RobustNet", CVPR 2021, arXiv 2103.15597. The layer only standardizes a map; the loss
whitens it. network/README.md tells the course of a training and how it differs from the paper.

    X_s, S_s           the standardized map and its covariance     standardization.py, covariance.py (eq. 5)
    L_IW (eq. 6)       `WhiteningMask.loss`: the mask is the strict upper triangle, the margin 0
    L_IRW (9 to 12)    the same with a margin
    V (13 to 15)       `WhiteningMask.observe`; its mean over images in `finish_trial`
    mask (16)          `finish_trial`
    L_ISW (17)         `WhiteningMask.loss` with that mask
"""

import logging
from collections.abc import Sequence

import kmeans1d
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.covariance import check_pixels, covariance
from network.standardization import standardize
from utils import distributed
from utils.errors import UserError

logger = logging.getLogger("robustnet")

# Time and memory of 1-D k-means grow with clusters x covariances: about 12 s and 1.5 GB per map and trial
# with 512 channels and this many clusters, a fifth of both with the default.
MOST_CLUSTERS = 256


class InstanceWhitening(nn.Module):
    """Standardize each channel of each image; it is the loss that whitens the result.

    The layer holds the standardized map until the network calls `take`, so that a backbone can place this
    layer anywhere without passing lists through its blocks.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.standardized: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) with mean 0 and variance 1 over H, W; UserError for maps of one pixel."""
        check_pixels(x)
        self.standardized = standardize(x)
        return self.standardized

    def take(self) -> Tensor:
        """Return the last standardized map (B, C, H, W) and release it; None if there is none."""
        standardized, self.standardized = self.standardized, None
        return standardized  # type: ignore[return-value]  # an error here would break the compiled graph

    def extra_repr(self) -> str:
        return str(self.channels)


class SelectiveInstanceWhitening(InstanceWhitening):
    """The same layer; its loss acts only on the covariances that react to photometric change (ISW)."""


def whitening_layers(module: nn.Module) -> list[InstanceWhitening]:
    """Return the whitening layers of `module` in the order of the forward pass."""
    return [m for m in module.modules() if isinstance(m, InstanceWhitening)]


class WhiteningMask(nn.Module):
    """Which covariances of one map the loss pushes to zero; utils.training.statistics estimates those of ISW.

    mask: (C, C) bool, within the strict upper triangle. num_selected: the number of True entries, 0-d int64.
    margin: the sum of absolute covariances that is not penalized (IRW), 0-d float32.
    """

    mask: Tensor
    num_selected: Tensor
    margin: Tensor
    variance_sum: Tensor
    images: Tensor
    variance: Tensor

    def __init__(self, channels: int, selective: bool, relax_denom: float) -> None:
        super().__init__()
        self.selective = selective
        upper = torch.ones(channels, channels).triu(1).bool()
        count = channels * (channels - 1) // 2
        margin = 0.0 if selective or relax_denom == 0 else count // relax_denom
        self.register_buffer("mask", torch.zeros_like(upper) if selective else upper)
        self.register_buffer("num_selected", torch.tensor(0 if selective else count))
        self.register_buffer("margin", torch.tensor(float(margin)))
        # Sums over one domain in one trial; `variance` is the average of the last ones, for pictures.
        self.register_buffer(
            "variance_sum", torch.zeros(channels, channels, dtype=torch.float64), persistent=False
        )
        self.register_buffer("images", torch.zeros((), dtype=torch.float64), persistent=False)
        self.register_buffer("variance", torch.zeros(channels, channels), persistent=False)

    def observe(self, maps: Tensor) -> None:
        """Add the variance between covariances of N photometric views and N originals, maps (2N, C, H, W).

        Eq. 14 and 15. The variance over the two is the unbiased one, (a - b)^2 / 2, as in the published code.
        """
        view, original = covariance(maps).chunk(2)
        self.variance_sum += ((view - original).double().square() / 2).sum(0).triu(1)
        self.images += len(view)

    def finish_trial(self, clusters: int, first: bool) -> None:
        """Average the variances (eq. 13), cluster them (1-D k-means), select all but the lowest (eq. 16)."""
        distributed.sum_in_place(self.variance_sum)
        distributed.sum_in_place(self.images)
        self.variance = (self.variance_sum / self.images).to(self.variance.dtype)
        self.variance_sum.zero_()
        self.images.zero_()
        # NOTE(published): the zeros of the diagonal and the lower triangle are clustered with them
        labels, _ = kmeans1d.cluster(self.variance.flatten().cpu().numpy(), clusters)
        labels = torch.tensor(labels)  # without 0 if there are fewer distinct values than clusters
        sensitive = (labels > labels.min()).view_as(self.mask).to(self.mask.device)
        self.mask.copy_(sensitive if first else self.mask & sensitive)
        self.num_selected.copy_(self.mask.sum())

    def loss(self, maps: Tensor) -> Tensor:
        """Return the mean over images of max(0, (sum |S * mask| - margin) / n), a scalar (eq. 12 and 17).

        0 when nothing is selected.
        """
        total = (covariance(maps) * self.mask).abs().sum((1, 2))
        return F.relu((total - self.margin) / self.num_selected.clamp(min=1)).mean()


class Whitening(nn.Module):
    """The masks of all whitened maps of a network, their estimation, and the whitening loss.

    masks: one WhiteningMask per map of `SegOutput.whitened`, in that order. The state_dict holds everything.
    """

    masks: Sequence[WhiteningMask]

    def __init__(
        self, channels: list[int], selective: list[bool], *, clusters: int, relax_denom: float
    ) -> None:
        super().__init__()
        if any(selective) and not 2 <= clusters <= MOST_CLUSTERS:
            raise UserError(f"ISW needs 2 to {MOST_CLUSTERS} --clusters of variances, not {clusters}")
        self.clusters = clusters
        self.trials = 0  # finished since the last reset, each domain of --trials by itself
        self.masks = nn.ModuleList(  # type: ignore[assignment]
            WhiteningMask(c, s, relax_denom) for c, s in zip(channels, selective, strict=True)
        )

    @classmethod
    def for_network(cls, net: nn.Module, *, clusters: int, relax_denom: float) -> "Whitening":
        """Return the masks for `net`: one per InstanceWhitening layer."""
        layers = whitening_layers(net)
        selective = [isinstance(m, SelectiveInstanceWhitening) for m in layers]
        return cls([m.channels for m in layers], selective, clusters=clusters, relax_denom=relax_denom)

    @property
    def selective(self) -> bool:
        """Whether any mask is estimated (ISW)."""
        return any(mask.selective for mask in self.masks)

    @torch.no_grad()
    def observe(self, whitened: tuple[Tensor, ...]) -> None:
        """Add the maps of one batch, which holds [all photometric views, then all originals] along B."""
        for mask, maps in zip(self.masks, whitened, strict=True):
            if mask.selective:
                mask.observe(maps)

    @torch.no_grad()
    def finish_trial(self) -> None:
        """Average over images (and processes), cluster, and intersect with the masks before.

        Each domain of each trial is finished like this: a covariance must be sensitive in all of them.
        """
        for i, mask in enumerate(self.masks):
            if mask.selective:
                mask.finish_trial(self.clusters, first=self.trials == 0)
                if not mask.num_selected:
                    logger.warning(
                        "whitened map %d: no covariance is sensitive in all trials; its loss is 0", i
                    )
        self.trials += 1

    def reset(self) -> None:
        """Clear the estimated masks; their loss is 0 until a trial is finished."""
        self.trials = 0
        for mask in self.masks:
            if mask.selective:
                mask.mask.zero_()
                mask.num_selected.zero_()

    def loss(self, whitened: tuple[Tensor, ...]) -> Tensor:
        """Return the mean of the losses over positions, a scalar; a mask not estimated yet contributes 0."""
        active = [
            mask.loss(maps) if self.trials or not mask.selective else maps.new_zeros((), dtype=torch.float32)
            for mask, maps in zip(self.masks, whitened, strict=True)
        ]
        return torch.stack(active).mean()

    def get_extra_state(self) -> dict[str, int]:
        return {"trials": self.trials}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.trials = state["trials"]
