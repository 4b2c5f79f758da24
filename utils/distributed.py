"""One process or many: torch.distributed with NCCL on GPUs and gloo on CPUs, the same calls either way."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist


def init(local_rank: int = 0) -> torch.device:
    """Join the process group that the launcher's environment describes, if any; return the device."""
    local_rank = int(os.environ.get("LOCAL_RANK", local_rank))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"process {local_rank} of this machine has no GPU of its own: {torch.cuda.device_count()} "
                "visible; launch with --nproc_per_node of at most that"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        # Others wait while the main process derives files from a whole dataset the first time.
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method="env://", timeout=timedelta(hours=2))
    return device


def rank() -> int:
    """Return the index of this process among all."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that logs and writes files."""
    return rank() == 0


def all_reduce_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum `tensor` over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def broadcast_object(value):
    """Return the main process's `value`, on every process."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    return box[0]


def all_gather_objects(value) -> list:
    """Return the values of all processes, in the order of their ranks."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def finish() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
