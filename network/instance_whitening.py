"""Instance whitening: the layer, the covariance, the masks of IW / IRW / ISW and their loss.

Choi, Jung et al., "RobustNet", CVPR 2021, arXiv 2103.15597. IW is eq. 6, IRW eq. 9 to 12, ISW eq. 13 to 17.
"""

import logging

import kmeans1d
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger("robustnet")

# 1-D k-means takes time and memory in proportion to clusters x covariances: with 512 channels and this many
# clusters about 12 s and 1.5 GB per map and trial, a fifth of both with the default.
MOST_CLUSTERS = 256


def float32_or_better(x: Tensor) -> Tensor:
    """Return x as it is, or as float32 if it is of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_pixels(maps: Tensor) -> None:
    """Raise ValueError unless maps (B, C, H, W) have the two pixels that a variance takes."""
    if maps.shape[-2:].numel() < 2:
        raise ValueError(
            "whitening needs maps of more than one pixel, not 1 x 1; take larger images, or whiten an "
            "earlier position of wt_layer"
        )


class InstanceWhitening(nn.Module):
    """Standardize each channel of each image; the whitening loss acts on the covariance of the result.

    The standardized map is kept until the network takes it with `take`, so that any backbone can place this
    layer anywhere without threading lists through its blocks.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.standardized: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) with mean 0 and variance 1 over H, W; ValueError for maps of one pixel."""
        check_pixels(x)
        self.standardized = F.instance_norm(x, eps=1e-5)
        return self.standardized

    def take(self) -> Tensor:
        """Return the last standardized map (B, C, H, W) and forget it."""
        standardized, self.standardized = self.standardized, None
        return standardized

    def extra_repr(self) -> str:
        return str(self.channels)


class SelectiveInstanceWhitening(InstanceWhitening):
    """The same layer; its loss acts only on the covariances that react to photometric change (ISW)."""


def covariance(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the covariances (B, C, C) = X X^T / (HW - 1) + eps I of standardized maps (B, C, H, W).

    Computed in float32 or better, also under autocast (arXiv 2103.15597, eq. 5). Raises ValueError for
    maps of one pixel.
    """
    check_pixels(maps)
    with torch.autocast(maps.device.type, enabled=False):
        x = float32_or_better(maps).flatten(2)
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return x @ x.mT / (x.shape[2] - 1) + eps * identity


class WhiteningMask(nn.Module):
    """Which covariances of one map should vanish.

    mask: (C, C) bool, entries of the strict upper triangle. num_selected: their number, 0-d int64.
    margin: the sum of absolute covariances that costs nothing, 0-d float32.
    """

    def __init__(self, channels: int, selective: bool, relax_denom: float):
        super().__init__()
        self.selective = selective
        upper = torch.ones(channels, channels).triu(1).bool()
        count = channels * (channels - 1) // 2
        margin = 0.0 if selective or relax_denom == 0 else count // relax_denom
        self.register_buffer("mask", torch.zeros_like(upper) if selective else upper)
        self.register_buffer("num_selected", torch.tensor(0 if selective else count))
        self.register_buffer("margin", torch.tensor(float(margin)))
        # Scratch of the trial under way; `variance` is the last trial's average, for pictures.
        self.register_buffer(
            "variance_sum", torch.zeros(channels, channels, dtype=torch.float64), persistent=False
        )
        self.register_buffer("images", torch.zeros((), dtype=torch.float64), persistent=False)
        self.register_buffer("variance", torch.zeros(channels, channels), persistent=False)

    def observe(self, maps: Tensor) -> None:
        """Add the variance between covariances of N photometric views and N originals, maps (2N, C, H, W).

        Eq. 14 and 15: the unbiased variance over the two, which is (a - b)^2 / 2.
        """
        view, original = covariance(maps).chunk(2)
        self.variance_sum += ((view - original).double().square() / 2).sum(0).triu(1)
        self.images += len(view)

    def finish_trial(self, clusters: int, first: bool) -> None:
        """Cluster the averaged variances (optimal 1-D k-means) and keep those above the lowest (eq. 16)."""
        if dist.is_initialized():
            dist.all_reduce(self.variance_sum)
            dist.all_reduce(self.images)
        self.variance = (self.variance_sum / self.images).to(self.variance.dtype)
        self.variance_sum.zero_()
        self.images.zero_()
        labels, _ = kmeans1d.cluster(self.variance.flatten().cpu().numpy(), clusters)
        labels = torch.tensor(labels)  # fewer values than clusters leave the lowest labels out
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
    """The masks of every whitened map of a network, how they are estimated, and the whitening loss.

    masks: one WhiteningMask per map of `SegOutput.whitened`, in that order. Everything is in the state_dict.
    """

    def __init__(self, channels: list[int], selective: list[bool], *, clusters: int, relax_denom: float):
        super().__init__()
        if any(selective) and not 2 <= clusters <= MOST_CLUSTERS:
            raise ValueError(
                f"selective whitening (code 2) splits variances into 2 to {MOST_CLUSTERS} --clusters, "
                f"not {clusters}"
            )
        self.clusters = clusters
        self.trials = 0  # finished since the last reset
        self.masks = nn.ModuleList(
            WhiteningMask(c, s, relax_denom) for c, s in zip(channels, selective, strict=True)
        )

    @classmethod
    def for_network(cls, net: nn.Module, *, clusters: int, relax_denom: float) -> "Whitening":
        """Make the masks that fit `net`: one per InstanceWhitening layer."""
        layers = [m for m in net.modules() if isinstance(m, InstanceWhitening)]
        selective = [isinstance(m, SelectiveInstanceWhitening) for m in layers]
        return cls([m.channels for m in layers], selective, clusters=clusters, relax_denom=relax_denom)

    @property
    def selective(self) -> bool:
        """Whether any mask has to be estimated."""
        return any(mask.selective for mask in self.masks)

    @torch.no_grad()
    def observe(self, whitened: tuple[Tensor, ...]) -> None:
        """Take in the maps of one batch that holds [all photometric views, then all originals] along B."""
        for mask, maps in zip(self.masks, whitened, strict=True):
            if mask.selective:
                mask.observe(maps)

    @torch.no_grad()
    def finish_trial(self) -> None:
        """Average over images (and processes), cluster, and intersect with the masks of earlier trials."""
        for i, mask in enumerate(self.masks):
            if mask.selective:
                mask.finish_trial(self.clusters, first=self.trials == 0)
                if not mask.num_selected:
                    logger.warning(
                        "whitened map %d: no covariance is sensitive in all trials; its loss is 0", i
                    )
        self.trials += 1

    def reset(self) -> None:
        """Forget the estimated masks; until the next finished trial their loss is 0."""
        self.trials = 0
        for mask in self.masks:
            if mask.selective:
                mask.mask.zero_()
                mask.num_selected.zero_()

    def loss(self, whitened: tuple[Tensor, ...]) -> Tensor:
        """Return the mean over positions of their losses, a scalar; estimated masks count once they exist."""
        active = [
            mask.loss(maps) if self.trials or not mask.selective else maps.new_zeros((), dtype=torch.float32)
            for mask, maps in zip(self.masks, whitened, strict=True)
        ]
        return torch.stack(active).mean()

    def get_extra_state(self) -> dict:
        return {"trials": self.trials}

    def set_extra_state(self, state: dict) -> None:
        self.trials = state["trials"]
