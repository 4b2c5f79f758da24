"""Steps whose gradients are not finite change nothing, and several in a row end the run."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from utils import distributed
from utils.errors import UserError, few
from utils.logging import own_logger
from utils.training.trainer import Trainer

MOST_IN_A_ROW = 3
LAG = 2  # steps after which the device's flag is read, so that the host does not wait for the device


class Kept(NamedTuple):
    """Buffers of one type, and their values in two flat tensors: those to keep, and those of now."""

    buffers: list[Tensor]
    kept: Tensor
    now: Tensor
    kept_views: list[Tensor]  # one for each buffer
    now_views: list[Tensor]

    @classmethod
    def of(cls, buffers: list[Tensor]) -> "Kept":
        """Return the place for `buffers`, which are of one type and device."""
        sizes = [buffer.numel() for buffer in buffers]
        kept, now = (buffers[0].new_empty(sum(sizes)) for _ in range(2))
        views = [
            [part.view_as(buffer) for part, buffer in zip(flat.split(sizes), buffers, strict=True)]
            for flat in (kept, now)
        ]
        return cls(buffers, kept, now, *views)


class Statistics:
    """Copies of the buffers of `modules`, such as the running statistics of batch norms.

    They are copied at the start and by `keep`. `restore` brings the copies back if a flag on the device is
    true. Neither makes the host wait, and both take a few kernels for all buffers together.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        groups: dict[Any, list[Tensor]] = {}
        for buffer in chain.from_iterable(module.buffers() for module in modules):
            groups.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self.groups = [Kept.of(buffers) for buffers in groups.values()]
        self.keep()

    def keep(self) -> None:
        """Copy the buffers as they are now."""
        for group in self.groups:
            torch._foreach_copy_(group.kept_views, group.buffers)

    def restore(self, bad: Tensor) -> None:
        """Give all buffers the kept values if the scalar `bad` is true; keep those that they then have."""
        for group in self.groups:
            torch._foreach_copy_(group.now_views, group.buffers)
            torch.where(bad, group.kept, group.now, out=group.now)
            torch._foreach_copy_(group.buffers, group.now_views)
            group.kept.copy_(group.now)


class Guard:
    """Wraps the optimizer's step of `trainer`; call `check` after each training step.

    A step is left out if a gradient is not finite: weights, the optimizer's state, the running statistics of
    the network and the class prior of self-training stay as they were. (The teacher moves towards weights of
    earlier steps, so it moves all the same.) The gradients are those of all processes, so all leave out the
    same steps. On a GPU the fused SGD reads the flag on the device; for Adam the host waits for it. With a
    GradScaler (float16), the scaler finds such steps, which are not counted: they adjust its scale.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.optimizer = trainer, trainer.optimizer
        self.in_a_row, self.left_out = 0, 0
        self.bad: Tensor | None = None  # whether the last step was left out
        self.read: deque[tuple[int, Sequence[str], Callable[[], bool]]] = deque()
        scaled = trainer.scaler.is_enabled()
        sgd = isinstance(self.optimizer, torch.optim.SGD)
        self.on_device = trainer.device.type == "cuda" and sgd and not scaled
        for group in self.optimizer.param_groups:
            group |= {"fused": True, "foreach": False} if self.on_device else {"fused": None, "foreach": None}
        prior = getattr(trainer.adaptation, "class_prior", None)
        self.statistics = Statistics([trainer.net, *([prior] if prior else [])])
        if scaled:
            self.scaled = trainer.scaler.step
            setattr(trainer.scaler, "step", self.scaled_step)  # noqa: B010
            return
        self.original = self.optimizer.step
        setattr(self.optimizer, "step", self.step)  # noqa: B010

    def scaled_step(self, optimizer: torch.optim.Optimizer) -> Any:
        """Do the GradScaler's step, and restore the statistics if it left out the optimizer's."""
        result = self.scaled(optimizer)
        found = self.trainer.scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        self.statistics.restore(torch.stack(list(found.values())).sum() > 0)
        return result

    def step(self, closure: Any = None) -> Any:
        """Do the optimizer's step unless a gradient is not finite."""
        found = [
            p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        bad = torch.stack(torch._foreach_norm(found)).isfinite().all().logical_not()
        self.bad = bad if self.bad is None else self.bad | bad
        self.statistics.restore(bad)
        if not self.on_device or not self.optimizer.state:  # the first step makes the state
            return None if bad else self.original(closure)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        return self.original(closure)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # the schedule asks whether it knows it

    def check(self, names: Sequence[str]) -> None:
        """Count a step that was left out, of the files `names`; UserError after MOST_IN_A_ROW of them."""
        self.statistics.keep()  # batch norm adaptation moves them after the optimizer's step
        if self.bad is None:
            return
        self.read.append((self.trainer.iteration, names, distributed.read_later(self.bad)))
        self.bad = None
        lag = LAG if self.trainer.device.type == "cuda" else 0
        if len(self.read) <= lag:
            return
        iteration, files, bad = self.read.popleft()
        if not bad():
            self.in_a_row = 0
            return
        self.in_a_row, self.left_out = self.in_a_row + 1, self.left_out + 1
        own_logger.warning(
            "iteration %d is left out: its gradients are not finite (%s)", iteration, few(files, 8)
        )
        if self.in_a_row == MOST_IN_A_ROW:
            losses = ", ".join(f"{name} {value.item()}" for name, value in self.trainer.means.last.items())
            raise UserError(
                f"the loss is not finite at iteration {iteration}: {losses}; {MOST_IN_A_ROW} steps in a row "
                f"were left out, the last one of {few(files, 8)}; lower --lr or look at these files"
            )
