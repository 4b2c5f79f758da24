"""The factory from a code of wt_layer to a module."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from network.instance_whitening import InstanceWhitening, SelectiveInstanceWhitening
from network.standardization import in_channels_last, standardize
from network.switchable_whitening import IterNorm, SwitchableWhitening
from utils.errors import UserError
from utils.norms import CODES, POSITIONS, Norm


class InstanceNorm(nn.InstanceNorm2d):
    """torch's instance norm, which keeps the layout of its maps as `standardize` does."""

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.compiler.is_compiling() or in_channels_last(x)):
            return super().forward(x)
        standardized = standardize(x)
        if not self.affine:
            return standardized
        return (standardized * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    Norm.IW: InstanceWhitening,
    Norm.ISW: SelectiveInstanceWhitening,
    Norm.IN: InstanceNorm,
    Norm.IBN: lambda channels: InstanceNorm(channels, affine=True),
    Norm.SW: SwitchableWhitening,
    Norm.ITERNORM: IterNorm,
}


def check_codes(wt_layer: Iterable[int]) -> tuple[Norm, ...]:
    """Return the seven codes of `wt_layer`; UserError for another number of codes or an unknown one."""
    codes = list(wt_layer)
    if len(codes) != POSITIONS:
        raise UserError(
            f"--wt_layer needs {POSITIONS} codes, one per position, not {len(codes)}: {list(map(int, codes))}"
        )
    if unknown := sorted(set(codes) - set(Norm)):
        raise UserError(f"the codes of --wt_layer are {CODES}, not {unknown}")
    return tuple(map(Norm, codes))


def make_norm(code: Norm, channels: int) -> nn.Module:
    """Return the module of a code other than NONE, for maps (B, channels, H, W)."""
    return NORMS[code](channels)
