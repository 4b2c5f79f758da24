"""Instance standardization, in forms that keep the memory layout of their maps."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.precision import float32_or_better

EPS = 1e-5  # is added to variances


def in_channels_last(x: Tensor) -> bool:
    """Whether the channels of each pixel of x (B, C, H, W) are neighbours in memory, and it matters."""
    return x.stride(1) == 1 < x.shape[1] and x.shape[-2:].numel() > 1


def standardize(x: Tensor) -> Tensor:
    """Return x (B, C, H, W) with mean 0 and variance 1 over H, W; 1e-5 is added to the variance.

    The result has the layout of x, where the time for that is worth it: PyTorch's instance norm copies maps
    in channels_last twice, and a compiled network cannot merge it with its neighbours.
    """
    if torch.compiler.is_compiling():
        return standardize_plainly(x, x)
    if not in_channels_last(x):
        return F.instance_norm(x, eps=EPS)
    if torch.is_grad_enabled() and x.requires_grad:
        return Standardize.apply(x)
    return standardize_by(x, x)


def standardize_plainly(x: Tensor, y: Tensor) -> Tensor:
    """Do as `standardize_by` in operations that keep the layout of y, compile and have gradients."""
    var, mean = torch.var_mean(float32_or_better(x), (2, 3), correction=0, keepdim=True)
    return ((float32_or_better(y) - mean) * (var + EPS).rsqrt()).to(y.dtype)


def standardize_by(x: Tensor, y: Tensor) -> Tensor:
    """Return y (B, C, h, w) less the mean and divided by the standard deviation of x (B, C, H, W).

    Without gradients. A GPU does it as batch norm does it to a batch, image by image.
    """
    if not (x.is_cuda and in_channels_last(x)):
        return standardize_plainly(x, y)
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
