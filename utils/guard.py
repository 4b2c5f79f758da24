"""Steps whose gradients are not finite change nothing, and several in a row end the run."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from utils import distributed
from utils.errors import UserError, few
from utils.logging import own_logger
from utils.training import Trainer

MOST_IN_A_ROW = 3
LAG = 2  # steps after which the device's flag is read, so that the host does not wait for the device


class Guard:
    """Wraps the optimizer's step of `trainer`; call `check` after each training step.

    A step is left out if a gradient is not finite: neither weights nor the optimizer's state change. The
    gradients are those of all processes, so all leave out the same steps. On a GPU the fused SGD reads the
    flag on the device; for Adam the host waits for it. With a GradScaler (float16), the scaler does all this.
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
        if scaled:
            return
        self.original = self.optimizer.step
        setattr(self.optimizer, "step", self.step)  # noqa: B010

    def step(self, closure: Any = None) -> Any:
        """Do the optimizer's step unless a gradient is not finite."""
        found = [
            p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        bad = torch.stack(torch._foreach_norm(found)).isfinite().all().logical_not()
        self.bad = bad if self.bad is None else self.bad | bad
        if not self.on_device or not self.optimizer.state:  # the first step makes the state
            return None if bad else self.original(closure)
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        return self.original(closure)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # the schedule asks whether it knows it

    def check(self, names: Sequence[str]) -> None:
        """Count a step that was left out, of the files `names`; UserError after MOST_IN_A_ROW of them."""
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
