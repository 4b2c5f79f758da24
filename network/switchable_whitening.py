"""Whitening by the batch's covariance (IterNorm), or by a learned mixture of it and the instance's (SW).

IterNorm: Huang et al., CVPR 2019, arXiv 1904.03441. SW: Pan et al., ICCV 2019, arXiv 1904.09739.
"""

import torch
from torch import Tensor, nn

from utils.distributed import differentiable_sum
from utils.precision import float32_or_better

EPS = 1e-5
MOMENTUM = 0.99  # of the running statistics: 0.99 old + 0.01 new
ITERATIONS = 5
LARGEST_GROUP = 16


def group_size(channels: int) -> int:
    """Return the largest divisor of `channels` up to 16."""
    return next(size for size in range(LARGEST_GROUP, 0, -1) if channels % size == 0)


def inverse_square_root(matrix: Tensor) -> Tensor:
    """Return M^(-1/2) of symmetric positive matrices (..., C, C) by Newton's iteration.

    Five steps from the identity on the matrix divided by its trace (arXiv 1904.03441, eq. 6 and 7).
    """
    inverse_trace = 1 / matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    normalized = matrix * inverse_trace
    root = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    for _ in range(ITERATIONS):
        root = 1.5 * root - 0.5 * root @ root @ root @ normalized
    return root * inverse_trace.sqrt()


def mean_and_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean (..., C, 1) and covariance (..., C, C) over the pixels of x (..., C, pixels)."""
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    return mean, centred @ centred.mT / x.shape[-1]


class IterNorm(nn.Module):
    """Whiten groups of channels by mean and covariance of the batch, over all processes.

    In the state_dict: weight and bias (C,); running_mean (G, C/G, 1) and running_cov (G, C/G, C/G), which are
    used in eval mode.
    """

    running_mean: Tensor
    running_cov: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = group_size(channels)
        groups = channels // size
        self.add_mixture()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(groups, size, 1))
        self.register_buffer("running_cov", torch.eye(size).repeat(groups, 1, 1))

    def add_mixture(self) -> None:
        """Register the mixing weights of a subclass, so that they come first in the state_dict."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and covariance, broadcastable to (B, G, C/G, 1 | C/G), of x (B, G, C/G, pixels)."""
        return self.batch_statistics(x)

    def batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (G, C/G, 1) and covariance (G, C/G, C/G) of the joint batch, or the running ones."""
        if not self.training:
            return self.running_mean, self.running_cov
        x = x.permute(1, 2, 0, 3).flatten(2)  # (G, C/G, B * pixels)
        count = differentiable_sum(x.new_tensor(x.shape[-1]))
        mean = differentiable_sum(x.sum(-1, keepdim=True)) / count
        centred = x - mean
        covariance = differentiable_sum(centred @ centred.mT) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), 1 - MOMENTUM)
            self.running_cov.lerp_(covariance.to(self.running_cov.dtype), 1 - MOMENTUM)
        return mean, covariance

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) whitened, scaled and shifted; computed in float32 or better."""
        with torch.autocast(x.device.type, enabled=False):
            maps = float32_or_better(x)
            grouped = maps.reshape(len(x), *self.running_mean.shape[:2], -1)  # (B, G, C/G, pixels)
            mean, covariance = self.statistics(grouped)
            identity = torch.eye(covariance.shape[-1], dtype=maps.dtype, device=x.device)
            white = inverse_square_root(covariance + EPS * identity) @ (grouped - mean)
            return white.view_as(maps) * self.weight[:, None, None] + self.bias[:, None, None]


class SwitchableWhitening(IterNorm):
    """Whiten groups of channels by a mixture of the batch's and the instance's statistics.

    In the state_dict besides IterNorm's: sw_mean_weight and sw_var_weight (2,). Their softmax weighs the
    batch's and the instance's statistics, in that order.
    """

    def add_mixture(self) -> None:
        """Register equal weights of batch and instance."""
        self.sw_mean_weight = nn.Parameter(torch.ones(2))
        self.sw_var_weight = nn.Parameter(torch.ones(2))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixture of both means and of both covariances."""
        instance_mean, instance_covariance = mean_and_covariance(x)
        batch_mean, batch_covariance = self.batch_statistics(x)
        mean_weight, covariance_weight = self.sw_mean_weight.softmax(0), self.sw_var_weight.softmax(0)
        mean = mean_weight[0] * batch_mean + mean_weight[1] * instance_mean
        return mean, covariance_weight[0] * batch_covariance + covariance_weight[1] * instance_covariance
