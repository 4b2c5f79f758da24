"""One process or many: torch.distributed with NCCL on GPUs and gloo on CPUs, the same calls either way."""

import functools
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported later, it would hold the group; see `finish`
from torch import Tensor

from utils.errors import UserError

Value = TypeVar("Value")
PATIENCE_MINUTES = 15  # of waiting for another process while training
captured: weakref.WeakSet[Any] = weakref.WeakSet()  # CUDA graphs, which may hold sums over processes


def init(local_rank: int = 0, loaders: int = 0) -> torch.device:
    """Join the process group that the launcher's environment describes, if any; return the device.

    `loaders` is the number of loader processes that will run beside this one; see `share_cores`.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", local_rank))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} of this machine has no GPU of its own: {torch.cuda.device_count()} "
                "visible; launch with --nproc_per_node of at most that"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        share_cores(loaders)
    if "RANK" in os.environ:
        wanted = "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
        if missing := [name for name in wanted if name not in os.environ]:
            text = f"the environment has RANK, but not {' and '.join(missing)}"
            raise UserError(f"{text}: unset RANK, or launch with torchrun")
        # Others wait while the main process derives files from a whole dataset the first time. While training
        # they wait less; see `limit_waiting`.
        backend = "nccl" if device.type == "cuda" else "gloo"
        with saying_who_is_missing():
            dist.init_process_group(backend, timeout=timedelta(hours=2), **own_store())
    return device


@contextmanager
def saying_who_is_missing(seconds: float = 30) -> Iterator[None]:
    """Print one line if joining the process group takes longer: variables of another program may be set."""
    text = (
        f"process {os.environ['RANK']} waits for the others: the environment says WORLD_SIZE="
        f"{os.environ['WORLD_SIZE']}; if no launcher started this, unset RANK and WORLD_SIZE"
    )
    timer = threading.Timer(seconds, print, (text,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_first() -> bool:
    """Whether this is the first process of the launcher's, also before the group is joined."""
    return "MASTER_ADDR" not in os.environ or os.environ.get("RANK", "0") == "0"


def own_store() -> dict[str, Any]:
    """Return where the processes find each other, as options of init_process_group.

    torchrun keeps one store for all starts of a launch. Processes that it starts again on one machine would
    find the addresses of those that ended there, so each start has its own part of the store.
    """
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if start == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":  # machines may count restarts differently
        return {"init_method": "env://"}
    store, rank, processes = next(iter(dist.rendezvous("env://")))
    return {"store": dist.PrefixStore(f"start {start}", store), "rank": rank, "world_size": processes}


def share_cores(loaders: int) -> None:
    """Let PyTorch compute on this process's part of the cores, less one for each of `loaders` processes.

    More threads than free cores wait for each other in every operation. OMP_NUM_THREADS overrides this.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        torch.set_num_threads(max(1, cores - loaders))


def limit_waiting() -> None:
    """Wait for other processes no longer than PATIENCE_MINUTES from now on, then raise an error."""
    api = dist.distributed_c10d
    limit = getattr(api, "set_timeout", None) or getattr(api, "_set_pg_timeout", None)  # torch before 2.12
    if dist.is_initialized() and limit:
        limit(timedelta(minutes=PATIENCE_MINUTES))


def rank() -> int:
    """Return the index of this process among all."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that logs and writes files."""
    return rank() == 0


def sum_in_place(tensor: Tensor) -> Tensor:
    """Sum `tensor` over all processes, in place, and return it; no gradient passes."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather_rows(row: Tensor) -> Tensor:
    """Return the rows (processes, n) of all processes; this one's is `row` (n,). No gradient passes."""
    if not dist.is_initialized():
        return row[None].clone()
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # torch before 2.14
    rows = row.new_empty(world_size() * len(row))
    gather(rows, row)
    return rows.view(world_size(), -1)


class _DifferentiableSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sum_in_place(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return sum_in_place(grads[0].clone())


def differentiable_sum(x: Tensor) -> Tensor:
    """Return the sum of `x` over all processes; its gradient is the sum of theirs."""
    return _DifferentiableSum.apply(x) if dist.is_initialized() else x


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every gradient its mean over all processes, in one message.

    All processes have gradients of the same parameters.
    """
    views = [in_memory_order(p.grad) for p in parameters if p.grad is not None]
    message = views[0].new_empty(sum(len(view) for view in views))
    parts = message.split([len(view) for view in views])
    torch._foreach_copy_(parts, views)
    if dist.is_initialized() and dist.get_backend() == "nccl":  # gloo only sums
        dist.all_reduce(message, dist.ReduceOp.AVG)
    else:
        sum_in_place(message.div_(world_size()))
    torch._foreach_copy_(views, parts)


def in_memory_order(tensor: Tensor) -> Tensor:
    """Return a view (n,) of the values of a tensor without gaps, in the order in which memory has them."""
    return tensor.as_strided((tensor.numel(),), (1,))


def copy_from_main(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have on the main process."""
    for tensor in tensors:
        dist.broadcast(tensor, 0)


def read_later(flag: torch.Tensor) -> Callable[[], bool]:
    """Begin to copy a flag from the device; call what is returned for its value, which waits for the copy."""
    if flag.device.type != "cuda":
        return lambda: bool(flag)
    copy, event = torch.zeros(flag.shape, dtype=flag.dtype, pin_memory=True), torch.cuda.Event()
    copy.copy_(flag, non_blocking=True)
    event.record()

    def value() -> bool:
        event.synchronize()
        return bool(copy)

    return value


def any_later(flag: bool, device: torch.device) -> Callable[[], bool]:
    """Begin to ask whether `flag` is true on any process; call what is returned for the answer.

    Asking does not make the host wait for the device. The answer waits only for the device's work before the
    question.
    """
    if device.type != "cuda":
        box = torch.tensor(float(flag))
        work = dist.all_reduce(box, dist.ReduceOp.MAX, async_op=True)

        def answer_of_cpu() -> bool:
            work.wait()
            return bool(box)

        return answer_of_cpu
    answer, event = torch.zeros((), pin_memory=True), torch.cuda.Event()
    with torch.cuda.stream(side_stream(device)):
        box = torch.full((), float(flag), device=device)
        dist.all_reduce(box, dist.ReduceOp.MAX)
        answer.copy_(box, non_blocking=True)
        event.record()

    def answer_of_device() -> bool:
        event.synchronize()
        return bool(answer)

    return answer_of_device


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return a stream beside the one that computes."""
    return torch.cuda.Stream(device)


def broadcast_object(value: Value) -> Value:
    """Return the main process's `value`, on every process."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box)
    return box[0]


def all_gather_objects(value: Value) -> list[Value]:
    """Return the values of all processes, in the order of their ranks."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def from_first_rank(compute: Callable[[], Value]) -> Value:
    """Return `compute()` of the main process, on every process; an error there is raised on all of them."""
    if not dist.is_initialized():
        return compute()
    value: Any = None
    error: Exception | None = None
    if is_main():
        try:
            value = compute()
        except Exception as failure:
            error = failure
    value, error = broadcast_object((value, error))
    if error is not None:
        raise error
    return value


def tell(key: str, text: str) -> None:
    """Let the other processes of the group, if there are any, be `told` a text.

    The store takes only text that UTF-8 can express; bytes of names that are not UTF-8 become \\udcNN.
    """
    text = text.encode(errors="backslashreplace").decode()
    with suppress(RuntimeError, ValueError):  # no group, or its store ended with another process
        dist.distributed_c10d._get_default_store().set(key, text)


def told(key: str) -> str | None:
    """Return the text that another process told, None if none did."""
    with suppress(RuntimeError, ValueError):  # as in `tell`
        store = dist.distributed_c10d._get_default_store()
        return store.get(key).decode() if store.check([key]) else None
    return None


def other_ended() -> bool:
    """Whether another process has told why it ends."""
    return bool(told("why stopped") or told("why failed"))


def finish() -> None:
    """Leave the process group, and end its threads.

    They live as long as anything holds the group. DistributedDataParallel does, until the garbage collector
    frees it. The functions of torch.distributed.nn do for ever, in default arguments, if they are imported
    after the group is joined; optimizers import them. A thread that is left frees the tensors of its last
    collective under Python's lock. While Python ends, before 3.14, asking for that lock aborts the process.

    NCCL waits until the CUDA graphs that hold its operations are gone, which the garbage collector may never
    see to.

    Before torch 2.8 a group is destroyed while Python's lock is held. Destroying its backend waits for the
    backend's threads, and a thread that frees the last tensor of a collective waits for the lock: both wait
    for ever. `backends` keeps the backends until the group is gone; Python destroys those without the lock.
    """
    if dist.is_initialized():
        for graph in captured:
            torch.cuda.synchronize()
            graph.reset()
        gc.collect()
        group: Any = dist.group.WORLD
        backends = [group._get_backend(device) for device in group._device_types]
        del group
        dist.destroy_process_group()
        del backends
