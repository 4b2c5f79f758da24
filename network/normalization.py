"""The factory from a code of wt_layer to a module; batch norm and dropout over several processes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from network.dropout import JointDropout2d
from network.instance_whitening import (
    InstanceWhitening,
    SelectiveInstanceWhitening,
    float32_or_better,
    in_channels_last,
    standardize,
)
from network.switchable_whitening import IterNorm, SwitchableWhitening
from utils.distributed import differentiable_sum
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


class GlooSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the joint batch of all processes, on any device (torch's SyncBatchNorm needs a GPU).

    Made from a batch norm, whose parameters and statistics it shares.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) normalized, in train mode by mean and variance of all processes' pixels."""
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, float32_or_better(x)
        pixels = x.new_tensor([x.numel() / x.shape[1]])
        sums = differentiable_sum(torch.cat([x.sum((0, 2, 3)), pixels]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        var = differentiable_sum(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)


def synchronize_batch_norm(net: nn.Module) -> nn.Module:
    """Make every batch norm inside `net` use the statistics of all processes; names and values stay."""
    if next(net.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for name, module in list(net.named_modules()):
        if type(module) is nn.BatchNorm2d:
            net.set_submodule(name, GlooSyncBatchNorm(module))
    return net


def synchronize(net: nn.Module, domains: int = 1) -> nn.Module:
    """Make `net` train on several processes as on one, with samples of `domains` images each."""
    for module in net.modules():
        if isinstance(module, JointDropout2d):
            module.domains = domains
    return synchronize_batch_norm(net)
