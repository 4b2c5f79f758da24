import copy

import pytest
import torch
from torch import nn

from network.synchronization import SyncBatchNorm, synchronize_batch_norm
from tests.helpers import run_processes


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
