"""How much memory this process has and may take, on a CPU."""

import contextlib
import ctypes
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError

GIB = 2**30
LEAST = 2**27  # bytes without which not even threads start
LIBRARIES = 3 * 2**25  # bytes of libraries that are loaded later; RLIMIT_DATA does not count their code
M_MMAP_THRESHOLD = -3  # of malloc.h


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return _status("VmRSS")


def available() -> int:
    """Return the bytes that this machine, or the control group of this process, has left for it."""
    found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    rooms = [int(found[1]) * 1024] if found else []
    group = Path("/sys/fs/cgroup")
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes",) * 2):
        with contextlib.suppress(OSError, ValueError):
            if limit != used:
                rooms.append(int((group / limit).read_text()) - int((group / used).read_text()))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(0, min(rooms, default=2**62)) // processes


@contextlib.contextmanager
def at_most(limit_gib: float | None) -> Iterator[None]:
    """Let allocations fail that would make this process larger than `limit_gib` GiB; without it, do nothing.

    The process then gets an error that it can handle, instead of being killed.
    """
    if not limit_gib:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    room = int(limit_gib * GIB) - resident() - LIBRARIES
    if room < LEAST:
        raise UserError(
            f"--max_memory_gb {limit_gib} is too small: the process has {resident() / GIB:.2f} GiB when it "
            f"begins, and needs {(LEAST + LIBRARIES) / GIB:.2f} GiB more"
        )
    # Freed tensors go back to the system, and leave no holes in memory that is kept.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**22)
    soft = _status("VmData") + room
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
