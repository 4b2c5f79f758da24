"""Batch norm and dropout over several processes, as over the joint batch in one."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from network.dropout import JointDropout2d
from utils.distributed import gather_rows, sum_in_place, world_size
from utils.precision import float32_or_better


class JointBatchNorm(torch.autograd.Function):
    """Batch norm of x (B, C, H, W) by mean and variance of all processes' pixels, in float32 or better.

    Processes exchange values once in the forward and once in the backward pass. The gradients of `weight` and
    `bias` are those of this process's pixels, as in torch's SyncBatchNorm. A compiled network merges
    everything else with its neighbours.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        """Return x normalized, then the joint mean (C,), variance (C,) and number of pixels.

        Half precision is rounded to later: torch 2.11 compiles a function that returns the result of a `to`
        that does nothing into one whose gradients are 0.
        """
        values = float32_or_better(x)
        var, mean = torch.var_mean(values, (0, 2, 3), correction=0)
        pixels = values.new_full((1,), values.numel() / len(mean))
        rows = rows_of_all_processes(torch.cat([mean, var, pixels]))
        means, variances, counts = rows.split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        var = ((variances + (means - mean).square()) * counts).sum(0) / count
        scale = (var + eps).rsqrt()
        normalized = standardize(x, mean, scale) * weight[:, None, None] + bias[:, None, None]
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, var, count)
        return normalized, mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, count = ctx.saved_tensors
        grad, standardized = grads[0], standardize(x, mean, scale)
        total, product = grad.sum((0, 2, 3)), (grad * standardized).sum((0, 2, 3))
        means = sum_of_all_processes(torch.stack([total, product]) / count)
        slope = grad - means[0, :, None, None] - standardized * means[1, :, None, None]
        slope = slope * (scale * weight)[:, None, None]
        return slope.to(x.dtype), product.to(weight.dtype), total.to(weight.dtype), None


def standardize(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return (x - mean) * scale of x (B, C, H, W), with mean and scale (C,), in the precision of these two.

    x is not converted first, because a compiler saves for the backward pass what it used both before and
    after a collective.
    """
    return (x - mean[:, None, None]) * scale[:, None, None]


class JointBatchNormKernels(torch.autograd.Function):
    """`JointBatchNorm` of PyTorch's kernels for a GPU, which torch's SyncBatchNorm uses, too.

    That one asks every layer which processes have no pixels, for which the host waits for the device. Here
    all have some. Each operation costs the host a launch, in every layer, so there are few.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> Tensor:
        """Return x normalized; move the statistics of `norm`."""
        x = without_gaps(x)
        mean, scale = torch.batch_norm_stats(x, norm.eps)
        pixels = constant(x.numel() / len(mean), mean.dtype, mean.device)
        rows = gather_rows(torch.cat([mean, scale, pixels]))
        means, scales, counts = rows.split_with_sizes([len(mean), len(mean), 1], 1)  # faster than split
        counts = counts.flatten()
        statistics = norm.running_mean, norm.running_var, norm.momentum or 0.0, norm.eps
        mean, scale = torch.batch_norm_gather_stats_with_counts(x, means, scales, *statistics, counts)
        ctx.save_for_backward(x, weight, mean, scale, counts.int())
        return torch.batch_norm_elemt(x, weight, bias, mean, scale, norm.eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        x, weight, mean, scale, counts = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=memory_format(x))
        total, product, of_weight, of_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, scale, weight, True, True, True
        )
        total, product = sum_in_place(torch.stack([total, product])).unbind()
        slope = torch.batch_norm_backward_elemt(grad, x, mean, scale, weight, total, product, counts)
        return slope, None, of_weight, of_bias


@functools.cache
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor (1,) that is made once."""
    return torch.full((1,), value, dtype=dtype, device=device)


@torch.library.custom_op("robustnet::rows_of_all_processes", mutates_args=())
def rows_of_all_processes(row: Tensor) -> Tensor:
    """Return the rows (processes, n) of all processes, of which this one's is `row` (n,).

    A compiler leaves this operation as it is. Collectives that it knows get a stream of their own, and the
    GPU waits between the two streams twice each time.
    """
    return gather_rows(row)


@rows_of_all_processes.register_fake
def _(row: Tensor) -> Tensor:
    return row.new_empty(world_size(), len(row))


@torch.library.custom_op("robustnet::sum_of_all_processes", mutates_args=())
def sum_of_all_processes(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes, as `rows_of_all_processes` does."""
    return sum_in_place(values.clone())


@sum_of_all_processes.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


def memory_format(x: Tensor) -> torch.memory_format:
    """Return channels_last if x (B, C, H, W) has that layout, otherwise contiguous."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def without_gaps(x: Tensor) -> Tensor:
    """Return x (B, C, H, W) in one of the two layouts that batch norm's kernels take."""
    return x.contiguous(memory_format=memory_format(x))


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the joint batch of all processes, on any device and in compiled networks."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) normalized, in train mode by mean and variance of all processes' pixels."""
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        if x.is_cuda and x.dtype != torch.float64 and not torch.compiler.is_compiling():
            return JointBatchNormKernels.apply(x, self, self.weight, self.bias)
        normalized, mean, var, count = JointBatchNorm.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        return normalized.to(x.dtype)


def synchronize_batch_norm(net: nn.Module) -> nn.Module:
    """Make every batch norm inside `net` use the statistics of all processes; parameters and names stay."""
    for name, norm in list(net.named_modules()):
        if type(norm) is nn.BatchNorm2d:
            joint = SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, device="meta")
            joint._parameters, joint._buffers = norm._parameters, norm._buffers
            net.set_submodule(name, joint.train(norm.training))
    return net


def synchronize(net: nn.Module, domains: int = 1) -> nn.Module:
    """Make `net` train on several processes as on one, with samples of `domains` images each."""
    for module in net.modules():
        if isinstance(module, JointDropout2d):
            module.domains = domains
    return synchronize_batch_norm(net)
