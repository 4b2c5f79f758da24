import copy

import pytest
import torch
from torch import nn

from network.synchronization import SyncBatchNorm, synchronize_batch_norm
from tests.helpers import joint_kernels, run_processes


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)).double()


def joint_batch():
    return torch.randn(6, 2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def one_step(rank, world_size, compiled):
    """Mean output over this process's share of the batch; gradients summed over processes."""
    net = synchronize_batch_norm(small_net())
    run = torch.compile(net, backend="aot_eager", fullgraph=True) if compiled else net
    run(joint_batch().chunk(world_size)[rank]).square().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    return gradients, net.state_dict()


@pytest.mark.parametrize("compiled", [False, True])
def test_two_processes_equal_one_on_the_joint_batch(compiled):
    """Also where the sums over processes are part of one compiled graph."""
    net = small_net()
    net(joint_batch()).square().sum().backward()
    for gradients, state in run_processes(one_step, 2, compiled):
        torch.testing.assert_close(gradients, [p.grad for p in net.parameters()])
        torch.testing.assert_close(state, net.state_dict())


def types_kept_for_the_backward_pass(rank, world_size):
    net = synchronize_batch_norm(small_net().float())
    run = torch.compile(net, backend="aot_eager_decomp_partition", fullgraph=True)
    kept = []
    with (
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),
    ):
        run(joint_batch().float())
    return {x.dtype for x in kept if x.numel() == 360}


def test_a_compiled_norm_keeps_no_map_in_float32():
    """In half precision; the maps have 360 values each."""
    assert run_processes(types_kept_for_the_backward_pass, 1) == [{torch.bfloat16}]


def test_eval_mode_is_plain_batch_norm():
    net = small_net()
    net(joint_batch())
    net.eval()
    synchronized = synchronize_batch_norm(copy.deepcopy(net))
    torch.testing.assert_close(synchronized(joint_batch()), net(joint_batch()))


def test_a_synchronized_norm_shares_parameters_and_names():
    """An optimizer made before sees the same parameters; momentum and eps are those of the norm."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3)).eval()
    parameters, state = list(net.parameters()), net.state_dict()
    synchronize_batch_norm(net)
    assert type(net[1]) is SyncBatchNorm and not net[1].training
    assert (net[1].eps, net[1].momentum) == (1e-3, 0.3)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert [(k, v.data_ptr()) for k, v in net.state_dict().items()] == [
        (k, v.data_ptr()) for k, v in state.items()
    ]


class Kernels:
    """PyTorch's kernels for a GPU, as formulas; `scale` is 1 / sqrt(var + eps)."""

    def batch_norm_stats(x, eps):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        return mean, (var + eps).rsqrt()

    def batch_norm_gather_stats_with_counts(
        x, means, scales, running_mean, running_var, momentum, eps, counts
    ):
        share, count = (counts / counts.sum())[:, None], counts.sum()
        mean = (share * means).sum(0)
        var = (share * (scales**-2 - eps + (means - mean) ** 2)).sum(0)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * count / (count - 1), momentum)
        return mean, (var + eps).rsqrt()

    def batch_norm_elemt(x, weight, bias, mean, scale, eps):
        return (x - mean[:, None, None]) * (scale * weight)[:, None, None] + bias[:, None, None]

    def batch_norm_backward_reduce(grad, x, mean, scale, weight, *wanted):
        total, product = grad.sum((0, 2, 3)), (grad * (x - mean[:, None, None])).sum((0, 2, 3))
        return total, product, product * scale, total

    def batch_norm_backward_elemt(grad, x, mean, scale, weight, total, product, counts):
        assert counts.dtype == torch.int32
        total, product = (total / counts.sum())[:, None, None], (product / counts.sum())[:, None, None]
        slope = grad - total - (x - mean[:, None, None]) * scale[:, None, None] ** 2 * product
        return slope * (scale * weight)[:, None, None]


def test_the_form_for_a_gpu_on_unequal_parts(monkeypatch):
    """Its kernels stand in as formulas; test_gpu.py has them."""
    for name, formula in vars(Kernels).items():
        if name.startswith("batch_norm"):
            monkeypatch.setattr(torch, name, formula)
    torch.testing.assert_close(*joint_kernels(monkeypatch, "cpu", torch.float64, torch.channels_last))
