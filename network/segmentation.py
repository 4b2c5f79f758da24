"""What all segmentation networks share: their output, their five stages, resizing and initialization."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbone import Backbone
from network.covariance import covariance
from network.instance_whitening import whitening_layers


class SegOutput(NamedTuple):
    """What a segmentation network returns."""

    logits: Tensor  # (B, K, H, W), upsampled with align_corners=True
    aux_logits: Tensor | None  # (B, K, H/s, W/s), from layer3; None in eval mode
    whitened: tuple[Tensor, ...]  # (B, C, h, w) standardized maps at the positions of IW and ISW


class StagedNet(nn.Module):
    """Five backbone stages and the whitened maps within them; a subclass adds the head.

    `classifiers` names the layers whose outputs are class scores.
    """

    classifiers: ClassVar[tuple[str, ...]]

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.layer0, self.layer1, self.layer2, self.layer3, self.layer4 = backbone.stages

    def whitened_maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return `SegOutput.whitened` of image (B, 3, H, W) without running stages after the last of them."""
        stages = [self.layer0, self.layer1, self.layer2, self.layer3, self.layer4]
        while stages and not whitening_layers(stages[-1]):
            stages.pop()
        for stage in stages:
            image = stage(image)
        return self.take_whitened()

    def covariances(self, image: Tensor) -> list[Tensor]:
        """Return the covariances (B, C, C) of each map that is whitened, of image (B, 3, H, W)."""
        return [covariance(maps) for maps in self.whitened_maps(image)]

    def take_whitened(self) -> tuple[Tensor, ...]:
        """Return the maps that the whitening layers hold since the last forward pass, and release them."""
        return tuple(layer.take() for layer in whitening_layers(self))


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize x (B, C, h, w) to size (H, W), bilinear, corners aligned."""
    if x.shape[-2:].numel() == 1:  # the same numbers; their gradients are summed up much faster
        return x.expand(-1, -1, *size)
    exact = x.is_cuda and torch.are_deterministic_algorithms_enabled()
    if exact or (torch.compiler.is_compiling() and x.requires_grad):
        return Resize.apply(x, size, not x.is_contiguous())
    return interpolate(x, size)


def interpolate(x: Tensor, size: torch.Size) -> Tensor:
    if torch.are_deterministic_algorithms_enabled():  # where F.interpolate is many slow operations
        return torch.ops.aten.upsample_bilinear2d(x, size, True)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Resize(torch.autograd.Function):
    """`interpolate`, whose gradient is two products with the matrices of the rows and of the columns.

    A compiled graph would scatter the gradient pixel by pixel, which takes much longer, and PyTorch's kernel
    adds it up in any order, which --deterministic forbids. The gradient is fastest if it has the layout that
    `channels_last` says; torch 2.6 compiles no function that asks a tensor.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: torch.Size, channels_last: bool = False) -> Tensor:
        ctx.size, ctx.channels_last = x.shape[-2:], channels_last
        return interpolate(x, size)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (h, w) = grads, ctx.size
        batch, channels, height, width = grad.shape
        rows = weights_of_resizing(h, height, grad)  # (h, H)
        columns = weights_of_resizing(w, width, grad)  # (w, W)
        if not ctx.channels_last:
            return rows @ (grad @ columns.mT), None, None
        pixels = grad.permute(0, 2, 3, 1)  # channels_last: a view of contiguous values
        pixels = rows @ pixels.reshape(batch, height, width * channels)
        pixels = columns @ pixels.view(batch * h, width, channels)
        return pixels.view(batch, h, w, channels).permute(0, 3, 1, 2), None, None


def weights_of_resizing(side: int, resized: int, like: Tensor) -> Tensor:
    """Return the share (side, resized) that each of `side` px has in each px after linear resizing.

    The device and the type are those of `like`.
    """
    pixels = torch.eye(side, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))[None]
    return F.interpolate(pixels, size=resized, mode="linear", align_corners=True)[0].to(like.dtype)


def initialize(module: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw the weights of all convolutions from He et al.'s normal distribution (arXiv 1502.01852).

    The variance is 2 / n of a convolution with n weights per output (fan_in) or per input (fan_out).
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode=mode)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def initialize_classifiers(layers: Iterable[nn.Conv2d]) -> None:
    """Draw small weights, of standard deviation 0.01, for layers whose outputs are class scores."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
