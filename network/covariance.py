"""The covariance of the channels of an image, which IW, IRW and ISW act on."""

from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.precision import float32_or_better

EPS = 1e-5  # is added to the diagonal
CHUNK = 4096  # pixels per product


def check_pixels(maps: Tensor) -> None:
    """Raise UserError unless maps (B, C, H, W) have the two pixels that a variance needs."""
    if maps.shape[-2:].numel() < 2:
        raise UserError(
            "whitening needs maps of more than one pixel, not 1 x 1; use larger images, or whiten an earlier "
            "position of --wt_layer"
        )


def covariance(maps: Tensor) -> Tensor:
    """Return the covariances (B, C, C) = X X^T / (HW - 1) + EPS I of standardized maps (B, C, H, W).

    arXiv 2103.15597, eq. 5, with the divisor and the EPS of the published code; no mask selects the diagonal,
    so EPS has no effect on a loss. Computed in float32 or better, also under autocast. Raises UserError for
    maps of one pixel.
    """
    check_pixels(maps)
    with torch.autocast(maps.device.type, enabled=False):
        products = PixelProducts.apply(maps.flatten(2))
        identity = torch.eye(products.shape[1], dtype=products.dtype, device=products.device)
        return products / (maps.shape[-2:].numel() - 1) + EPS * identity


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
