"""The means of the losses that log lines show."""

import time
from typing import Any

import torch

from utils import distributed

COUNTED, LABELLED = "steps that count", "steps with a labelled pixel"


class RunningMeans:
    """Means of named scalars over steps and processes, added without waiting for the device."""

    labelled = True  # whether the last means have a step with labelled pixels, that is, a main loss above 0

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all values and start the clock again."""
        self.sums: dict[str, torch.Tensor] = {}
        self.last: dict[str, torch.Tensor] = {}  # the values of the last step
        self.steps = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Count time and steps for the time per step from now on."""
        self.timed, self.since = 0, time.perf_counter()

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Add the scalars of one step. Every step has the same names.

        A step whose scalar "train" is not finite does not count.
        """
        self.last = {name: value.detach() for name, value in values.items()}
        counts = self.last.get("train", torch.ones(())).isfinite()
        labelled = counts & (self.last.get("main", self.last.get("train", counts)) != 0)
        added = self.last | {COUNTED: counts.float(), LABELLED: labelled.float()}
        for name, value in added.items():
            self.sums[name] = self.sums.get(name, 0) + torch.where(counts, value, 0.0)
        self.steps += 1
        self.timed += 1

    def take(self) -> tuple[dict[str, float], float]:
        """Return the means since the last call and the seconds per step; all processes call it together."""
        sums = {name: distributed.sum_in_place(total) for name, total in self.sums.items()}
        count, labelled = sums.pop(COUNTED, torch.ones(())), sums.pop(LABELLED, torch.ones(()))
        self.labelled = labelled.item() > 0
        means = {name: (total / count).item() for name, total in sums.items()}
        seconds = (time.perf_counter() - self.since) / max(1, self.timed)
        self.reset()
        return means, seconds

    def state_dict(self) -> dict[str, Any]:
        """Return the values added since the last call of `take`, of this process."""
        return {"steps": self.steps, "sums": {name: value.cpu() for name, value in self.sums.items()}}

    def load_state_dict(self, states: list[dict[str, Any]], device: torch.device) -> None:
        """Restore what `state_dict` returned on each process; for another number of processes, their mean."""
        if len(states) == distributed.world_size():
            states = [states[distributed.rank()]]
        self.steps, names = states[0]["steps"], states[0]["sums"]
        sums = {name: torch.stack([state["sums"][name] for state in states]).mean(0) for name in names}
        self.sums = {name: value.to(device) for name, value in sums.items()}
