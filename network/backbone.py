"""What every backbone gives to the head, and the steps that all backbones share."""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor, nn

from network.normalization import make_norm
from utils.norms import Norm

logger = logging.getLogger("robustnet")


class Backbone(NamedTuple):
    """Five stages in a row."""

    stages: tuple[nn.Module, ...]  # layer0 .. layer4
    channels: tuple[int, ...]  # of each stage's output
    prefixes: dict[str, str]  # beginning of torchvision's entry names -> beginning of ours
    output_stride: int  # input size / size of the last stage's output
    variants: dict[str, dict[str, str]] = {}  # an entry that only files of other names have -> their prefixes


class NormAtEnd(nn.Module):
    """Mixed into a block class: a place for a norm after everything else in the block."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.instance_norm_layer(super().forward(x))


def cut(
    layers: nn.Sequential, cuts: tuple[int, ...], name: str
) -> tuple[tuple[nn.Sequential, ...], dict[str, str]]:
    """Return the stages layers[cuts[i] : cuts[i + 1]] and their `Backbone.prefixes`; `layers` is `name`."""
    stages: list[nn.Sequential] = []
    prefixes: dict[str, str] = {}
    for stage, (start, end) in enumerate(pairwise(cuts)):
        stages.append(nn.Sequential(*layers[start:end]))
        prefixes |= {f"{name}.{i}.": f"layer{stage}.{i - start}." for i in range(start, end)}
    return tuple(stages), prefixes


def place_norms(stages: Iterable[nn.Sequential], codes: Iterable[Norm], channels: Iterable[int]) -> None:
    """End each stage with the norm of its code, for as many `channels`.

    The norm becomes `instance_norm_layer` of the stage's last block, or of the stage if that block has no
    place for a norm.
    """
    for stage, code, width in zip(stages, codes, channels, strict=True):
        if code:
            place = stage[-1] if hasattr(stage[-1], "instance_norm_layer") else stage
            place.add_module("instance_norm_layer", make_norm(code, width))


def warn_of_unused_codes(name: str, wt_layer: Sequence[Norm], positions: Iterable[int]) -> None:
    """Warn if `wt_layer` asks for a norm at one of `positions`, where the backbone `name` has no place."""
    if unused := [i for i in positions if wt_layer[i]]:
        logger.warning("%s has no place for a norm at positions %s of wt_layer; ignored", name, unused)


def dilate_stages(stages: Iterable[nn.Module], dilations: Iterable[int], strided_only: bool = False) -> None:
    """Replace each stage's stride by its dilation; a stage of dilation 1 stays as it is."""
    for stage, dilation in zip(stages, dilations, strict=True):
        if dilation > 1:
            dilate(stage, dilation, strided_only)


def dilate(stage: nn.Module, dilation: int, strided_only: bool = False) -> None:
    """Replace the stride of `stage` by `dilation`, in every convolution or only in those with a stride."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            strided, size = module.stride != (1, 1), module.kernel_size[0]
            module.stride = (1, 1)
            if size > 1 and (strided or not strided_only):
                module.dilation = (dilation, dilation)
                module.padding = (dilation * (size // 2),) * 2
