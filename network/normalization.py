"""The factory `wt_layer` code -> module, and batch norm over several processes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from network.instance_whitening import InstanceWhitening, SelectiveInstanceWhitening, float32_or_better
from network.switchable_whitening import IterNorm, SwitchableWhitening
from utils.distributed import differentiable_sum

NORMS: dict[int, Callable[[int], nn.Module]] = {
    1: InstanceWhitening,  # IW, and IRW with a margin
    2: SelectiveInstanceWhitening,  # ISW
    3: nn.InstanceNorm2d,
    4: lambda channels: nn.InstanceNorm2d(channels, affine=True),  # IBN-Net, arXiv 1807.09441
    5: SwitchableWhitening,
    6: IterNorm,
}


def check_codes(wt_layer: list[int]) -> None:
    """Raise ValueError unless `wt_layer` holds seven known codes."""
    if len(wt_layer) != 7:
        raise ValueError(f"wt_layer takes 7 codes, one per position, not {len(wt_layer)}: {list(wt_layer)}")
    if unknown := sorted(set(wt_layer) - {0, *NORMS}):
        raise ValueError(f"wt_layer codes are 0 (none) and {sorted(NORMS)}, not {unknown}")


def make_norm(code: int, channels: int) -> nn.Module:
    """Return the module of a non-zero code for maps (B, channels, H, W)."""
    return NORMS[code](channels)


class GlooSyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the joint batch of all processes, on any device (torch's SyncBatchNorm needs a GPU)."""

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
    """Make every batch norm of `net` use the statistics of all processes; entries and values stay."""
    if next(net.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlooSyncBatchNorm  # same attributes and entries, another forward
    return net
