"""Run a function in several gloo processes, as torchrun would."""

import os
import socket
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from utils import distributed


def _entry(rank, function, world_size, port, folder, args):
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    dist.init_process_group("gloo")
    torch.save(function(rank, world_size, *args), Path(folder, f"{rank}.pt"))
    distributed.finish()


def run_processes(function, world_size, *args):
    """Return [function(rank, world_size, *args) for every rank], each run in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        group = mp.spawn(_entry, (function, world_size, port, folder, args), nprocs=world_size, join=False)
        try:
            while not group.join():
                pass
        finally:  # a process that hangs does not outlive its test
            for process in group.processes:
                process.kill()
                process.join()
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(world_size)]
