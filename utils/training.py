"""What a training run changes, and its checkpoints: the last one, and the best of each validation dataset."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from utils import checkpoint, distributed
from utils.logging import logger
from utils.metrics import Summary


@dataclass
class Training:
    """Everything that training changes, and so everything a checkpoint holds."""

    net: nn.Module
    whitening: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    loader: DataLoader  # of the training images, with a sampler that has a position
    settings: dict  # what a continued run must share
    epoch: int = 0  # the one under way, or the next
    iteration: int = 0  # optimizer steps done
    best: dict[str, float] = field(default_factory=dict)  # mean IU by validation dataset

    def steps_done(self) -> int:
        """Return how many steps of its epoch the training sampler has behind it."""
        return self.loader.sampler.steps_done(self.loader.batch_size)

    def state_dict(self) -> dict:
        return {
            "state_dict": {f"module.{key}": value for key, value in self.net.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "whitening": self.whitening.state_dict(),
            "sampler": self.loader.sampler.state_dict(),
            "rng": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
            "settings": self.settings,
            "epoch": self.epoch,  # its sampler's position says how far it got
            "iteration": self.iteration,
            "best": self.best,
            "command": " ".join(sys.argv),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state`; raises ValueError when it lacks what continuing needs."""
        if lacking := sorted(set(self.state_dict()) - set(state)):
            raise ValueError(
                f"the checkpoint cannot be continued, it lacks {', '.join(lacking)}; leave out "
                "--restore_optimizer to start from its weights"
            )
        checkpoint.check_settings(state, self.settings)
        logger.info("weights: %s", checkpoint.load_weights(self.net, state["state_dict"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.whitening.load_state_dict(state["whitening"])
        self.loader.sampler.load_state_dict(state["sampler"])
        torch.set_rng_state(state["rng"]["cpu"])
        if len(state["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        finished = self.steps_done() >= len(self.loader)
        self.epoch = state["epoch"] + finished
        self.iteration, self.best = state["iteration"], state["best"]


def save(training: Training, scores: dict[str, Summary], folder: Path) -> None:
    """Write `last_...` (scored on the first validation dataset) and a `best_...` per dataset that improved.

    The file a new one replaces goes only after the new one is complete.
    """
    improved = [name for name, score in scores.items() if score.mean_iu > training.best.get(name, -1)]
    training.best |= {name: scores[name].mean_iu for name in improved}
    if not distributed.is_main():
        return
    first = next(iter(scores), "unscored")
    for kind, name in [("last", first), *(("best", name) for name in improved)]:
        mean_iu = scores[name].mean_iu if name in scores else math.nan
        stem = f"{kind}_{name}_epoch_"
        file = folder / f"{stem}{training.epoch}_mean-iu_{mean_iu:.5f}.pth"
        checkpoint.save(file, {**training.state_dict(), "mean_iu": mean_iu})
        for old in folder.glob(f"{stem}*.pth"):
            if old != file:
                old.unlink()
