"""Instance whitening: the layer, the covariance, the masks of IW / IRW / ISW and their loss.

Choi, Jung et al., "RobustNet", CVPR 2021, arXiv 2103.15597. IW is eq. 6, IRW eq. 9 to 12, ISW eq. 13 to 17.
"""

import logging
from collections.abc import Sequence
from typing import Any

import kmeans1d
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import distributed
from utils.errors import UserError

logger = logging.getLogger("robustnet")

# Time and memory of 1-D k-means grow with clusters x covariances: about 12 s and 1.5 GB per map and trial
# with 512 channels and this many clusters, a fifth of both with the default.
MOST_CLUSTERS = 256
EPS = 1e-5  # is added to variances
CHUNK = 4096  # pixels per product in a covariance


def float32_or_better(x: Tensor) -> Tensor:
    """Return x, converted to float32 if it is of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def check_pixels(maps: Tensor) -> None:
    """Raise UserError unless maps (B, C, H, W) have the two pixels that a variance needs."""
    if maps.shape[-2:].numel() < 2:
        raise UserError(
            "whitening needs maps of more than one pixel, not 1 x 1; use larger images, or whiten an earlier "
            "position of --wt_layer"
        )


def in_channels_last(x: Tensor) -> bool:
    """Whether the channels of each pixel of x (B, C, H, W) are neighbours in memory, and it matters."""
    return x.stride(1) == 1 < x.shape[1] and x.shape[-2:].numel() > 1


def standardize(x: Tensor) -> Tensor:
    """Return x (B, C, H, W) with mean 0 and variance 1 over H, W; 1e-5 is added to the variance.

    The result has the layout of x, where the time for that is worth it: PyTorch's instance norm copies maps
    in channels_last twice, and a compiled network cannot merge it with its neighbours.
    """
    if torch.compiler.is_compiling():
        return standardize_plainly(x)
    if not in_channels_last(x):
        return F.instance_norm(x, eps=EPS)
    if torch.is_grad_enabled() and x.requires_grad:
        return Standardize.apply(x)
    return standardize_by(x, x)


def standardize_plainly(x: Tensor) -> Tensor:
    """Standardize in operations that keep the layout of x."""
    values = float32_or_better(x)
    var, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
    return ((values - mean) * (var + EPS).rsqrt()).to(x.dtype)


def standardize_by(x: Tensor, y: Tensor) -> Tensor:
    """Return y (B, C, h, w) less the mean and divided by the standard deviation of x (B, C, H, W).

    Without gradients. A GPU does it as batch norm does it to a batch, image by image.
    """
    if not (x.is_cuda and in_channels_last(x)):
        values = float32_or_better(x)
        var, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
        return ((float32_or_better(y) - mean) * (var + EPS).rsqrt()).to(y.dtype)
    standardized = torch.empty_like(y)
    for image, other, result in zip(x.split(1), y.split(1), standardized.split(1), strict=True):
        mean, scale = torch.batch_norm_stats(image, EPS)
        torch.batch_norm_elemt(other, None, None, mean, scale, EPS, out=result)
    return standardized


class Standardize(torch.autograd.Function):
    """`standardize` of maps in channels_last for training; its gradient keeps their layout, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        values = float32_or_better(x)
        var, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
        scale = (var + EPS).rsqrt()
        standardized = (values - mean).mul_(scale).to(x.dtype)
        ctx.save_for_backward(standardized, scale)
        return standardized

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        standardized, scale = ctx.saved_tensors
        grad, y = float32_or_better(grads[0]), float32_or_better(standardized)
        mean = grad.mean((2, 3), keepdim=True)
        product = (grad * y).mean((2, 3), keepdim=True)  # of the gradient and the map
        slope = torch.addcmul(grad - mean, y, product, value=-1)
        return slope.mul_(scale).to(grads[0].dtype)


class InstanceWhitening(nn.Module):
    """Standardize each channel of each image; the whitening loss acts on the covariance of the result.

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


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the products (N, C, C) of matrices (N, C, pixels) and (N, pixels, C) in float32 or better."""
    if a.is_cuda and a.dtype in (torch.bfloat16, torch.float16) and hasattr(torch.ops.aten.bmm, "dtype"):
        return torch.bmm(a, b, out_dtype=torch.float32)  # the same numbers without a copy in float32
    return float32_or_better(a) @ float32_or_better(b)


class PixelProducts(torch.autograd.Function):
    """X X^T of maps X (B, C, pixels), (B, C, C) in float32 or better, and its gradient (G + G^T) X.

    A GPU computes one product with few channels and many pixels on few of its cores, so products of chunks of
    pixels are summed up. The gradient is one product, of half precision for maps in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        batch, channels, pixels = x.shape
        chunks = max(1, pixels // CHUNK)
        size = pixels // chunks
        even, rest = x[..., : chunks * size], x[..., chunks * size :]
        if channels > 1 and x.stride(1) == 1:  # channels_last: a view
            parts = even.unflatten(2, (chunks, size)).transpose(1, 2).flatten(0, 1)
            products = product(parts, parts.mT).unflatten(0, (batch, chunks)).sum(1)
        else:  # views of one image at a time, because a view of all would be a copy
            images = [image.unflatten(1, (chunks, size)).transpose(0, 1) for image in even]
            products = torch.stack([product(parts, parts.mT).sum(0) for parts in images])
        return products + product(rest, rest.mT) if rest.shape[2] else products

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        both = grads[0] + grads[0].mT
        if x.dtype != torch.bfloat16:
            return (both @ x.to(both.dtype)).to(x.dtype)
        return both.to(x.dtype) @ x


def covariance(maps: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the covariances (B, C, C) = X X^T / (HW - 1) + eps I of standardized maps (B, C, H, W).

    Computed in float32 or better, also under autocast (arXiv 2103.15597, eq. 5). Raises UserError for
    maps of one pixel.
    """
    check_pixels(maps)
    with torch.autocast(maps.device.type, enabled=False):
        products = PixelProducts.apply(maps.flatten(2))
        identity = torch.eye(products.shape[1], dtype=products.dtype, device=products.device)
        return products / (maps.shape[-2:].numel() - 1) + eps * identity


class WhiteningMask(nn.Module):
    """Which covariances of one map the loss pushes to zero.

    mask: (C, C) bool, within the strict upper triangle. num_selected: the number of True entries, 0-d int64.
    margin: the sum of absolute covariances that is not penalized, 0-d float32.
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

        Eq. 14 and 15: the unbiased variance over the two, which is (a - b)^2 / 2.
        """
        view, original = covariance(maps).chunk(2)
        self.variance_sum += ((view - original).double().square() / 2).sum(0).triu(1)
        self.images += len(view)

    def finish_trial(self, clusters: int, first: bool) -> None:
        """Cluster the averaged variances (optimal 1-D k-means); select all but the lowest (eq. 16)."""
        distributed.sum_in_place(self.variance_sum)
        distributed.sum_in_place(self.images)
        self.variance = (self.variance_sum / self.images).to(self.variance.dtype)
        self.variance_sum.zero_()
        self.images.zero_()
        labels, _ = kmeans1d.cluster(self.variance.flatten().cpu().numpy(), clusters)
        labels = torch.tensor(labels)  # the lowest labels do not occur with fewer values than clusters
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
        self.trials = 0  # finished since the last reset
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
