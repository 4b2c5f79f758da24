import copy

import torch
from torch import nn

from network.normalization import synchronize_batch_norm
from tests.helpers import run_processes


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)).double()


def joint_batch():
    return torch.randn(6, 2, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def one_step(rank, world_size):
    """Mean output over this process's share of the batch; gradients summed over processes."""
    net = synchronize_batch_norm(small_net())
    net(joint_batch().chunk(world_size)[rank]).square().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    return gradients, net.state_dict()


def test_two_processes_equal_one_on_the_joint_batch():
    net = small_net()
    net(joint_batch()).square().sum().backward()
    for gradients, state in run_processes(one_step, 2):
        torch.testing.assert_close(gradients, [p.grad for p in net.parameters()])
        torch.testing.assert_close(state, net.state_dict())


def test_eval_mode_is_plain_batch_norm():
    net = small_net()
    net(joint_batch())
    net.eval()
    synchronized = synchronize_batch_norm(copy.deepcopy(net))
    torch.testing.assert_close(synchronized(joint_batch()), net(joint_batch()))
