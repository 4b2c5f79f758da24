"""What every backbone is to the head: five stages and their channels."""

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn


class Backbone(NamedTuple):
    """Five stages in a row."""

    stages: tuple[nn.Module, ...]  # layer0 .. layer4
    channels: tuple[int, ...]  # what each stage puts out
    prefixes: dict[str, str]  # how torchvision's entry names begin -> how they begin here


class NormAtEnd:
    """Mixed into a block class: a place for a norm behind all it does."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.instance_norm_layer(super().forward(x))


def cut(
    layers: nn.Sequential, cuts: tuple[int, ...], name: str
) -> tuple[tuple[nn.Sequential, ...], dict[str, str]]:
    """Return stages layers[cuts[i] : cuts[i + 1]], and their `Backbone.prefixes` if `layers` is `name`."""
    stages, prefixes = [], {}
    for stage, (start, end) in enumerate(pairwise(cuts)):
        stages.append(nn.Sequential(*layers[start:end]))
        prefixes |= {f"{name}.{i}.": f"layer{stage}.{i - start}." for i in range(start, end)}
    return tuple(stages), prefixes


def dilate(stage: nn.Module, dilation: int, strided_only: bool = False) -> None:
    """Trade the stride of `stage` for `dilation`, in every convolution or in those that had a stride."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            strided, size = module.stride != (1, 1), module.kernel_size[0]
            module.stride = (1, 1)
            if size > 1 and (strided or not strided_only):
                module.dilation = (dilation, dilation)
                module.padding = (dilation * (size // 2),) * 2
