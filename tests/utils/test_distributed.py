"""Joining and leaving a process group."""

import gc
import time

import pytest
import torch
import torch.distributed as dist

from tests.helpers import run_processes
from utils import distributed


def come_and_go(rank, world_size):
    """Leave a group right after a collective whose tensor nobody else holds, many times."""
    distributed.finish()
    gc.freeze()  # so that no call looks through all that was imported
    for _ in range(500):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        dist.broadcast(torch.zeros(1), 0)
        distributed.finish()
    return dist.is_initialized()


def test_a_group_can_be_left_right_after_a_collective():
    """With torch 2.6, destroy_process_group by itself hangs here."""
    assert run_processes(come_and_go, 1) == [False]


class Graph:
    """Stands for a CUDA graph; `gone` is whether it was reset while the group was there."""

    gone = False

    def reset(self):
        self.gone = dist.is_initialized()


def leave_with_a_graph(rank, world_size):
    torch.cuda.synchronize = lambda: None
    graph = Graph()
    distributed.captured.add(graph)
    distributed.finish()
    return graph.gone


def test_graphs_are_gone_before_the_group_is():
    """NCCL waits for those that hold its operations, so two processes with --cuda_graph never ended."""
    assert run_processes(leave_with_a_graph, 1) == [True]


def gathered(rank, world_size):
    return distributed.gather_rows(torch.tensor([10.0 * rank, 1]))


def test_rows_of_all_processes():
    for rows in run_processes(gathered, 2):
        assert rows.tolist() == [[0, 1], [10, 1]]
    assert distributed.gather_rows(torch.ones(2)).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    "cores, processes, loaders, threads", [(2, 1, 4, 1), (16, 1, 4, 12), (16, 2, 3, 5), (2, 1, 0, 2)]
)
def test_loaders_have_cores_of_their_own(monkeypatch, cores, processes, loaders, threads):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    distributed.share_cores(loaders)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    distributed.share_cores(loaders)
    assert chosen == [threads]


def test_processes_that_start_again_do_not_find_those_before(monkeypatch):
    """torchrun keeps its store, with the addresses of the processes that have ended."""
    store = torch.distributed.HashStore()
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda url: iter([(store, 1, 2)]))
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert distributed.own_store() == {"init_method": "env://"}
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    options = distributed.own_store()
    options["store"].set("address", "new")
    assert not store.check(["address"]) and (options["rank"], options["world_size"]) == (1, 2)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert distributed.own_store() == {"init_method": "env://"}


def test_a_process_that_waits_for_others_says_so(monkeypatch, capsys):
    """A stray RANK and WORLD_SIZE let a process wait for others that nobody started."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with distributed.saying_who_is_missing(0.01):
        time.sleep(0.3)
    with distributed.saying_who_is_missing(60):
        pass
    said = capsys.readouterr().err
    assert said.count("WORLD_SIZE=2; if no launcher started this, unset RANK and WORLD_SIZE") == 1
