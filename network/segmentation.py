"""What all segmentation networks share: their output, their five stages, resizing and initialization."""

from collections.abc import Iterable
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbone import Backbone
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

    def take_whitened(self) -> tuple[Tensor, ...]:
        """Return the maps that the whitening layers hold since the last forward pass, and release them."""
        return tuple(layer.take() for layer in whitening_layers(self))


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize x (B, C, h, w) to size (H, W), bilinear, corners aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


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
