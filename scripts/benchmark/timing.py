"""Time and memory of calls on a CPU or GPU."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch


class Timing(NamedTuple):
    first: float  # seconds of the first call
    seconds: float  # seconds of a later call
    memory: float  # GiB at the peak, 0 without a GPU


def timing(work: Callable[[], object], device: torch.device, at_least: float) -> Timing:
    """Time the first call of `work`, and the median of later calls that take `at_least` seconds in all."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times: list[float] = []
    while len(times) < 2 or sum(times[1:]) < at_least:
        start = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0
    return Timing(times[0], float(np.median(times[1:])), memory)


def machine() -> str:
    """Return what measures: the GPU or CPU, and the version of torch."""
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else f"CPU with {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}"
