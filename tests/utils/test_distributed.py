"""Joining and leaving a process group."""

import torch
import torch.distributed as dist

from tests.helpers import run_processes
from utils import distributed


def come_and_go(rank, world_size):
    """Leave a group right after a collective whose tensor nobody else holds, many times."""
    distributed.finish()
    for _ in range(500):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        dist.broadcast(torch.zeros(1), 0)
        distributed.finish()
    return dist.is_initialized()


def test_a_group_can_be_left_right_after_a_collective():
    """With torch 2.6, destroy_process_group by itself hangs here."""
    assert run_processes(come_and_go, 1) == [False]
