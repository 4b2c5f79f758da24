"""What a training run changes, and its checkpoints: the last one, and the best of each validation dataset."""

import math
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from utils import checkpoint, distributed
from utils.evaluation.metrics import Summary
from utils.logging import logger


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
    adaptation: nn.Module | None = None  # to a target domain
    target: DataLoader | None = None  # of its images
    epoch: int = 0  # the one under way, or the next
    iteration: int = 0  # optimizer steps done
    best: dict[str, float] = field(default_factory=dict)  # mean IU by validation dataset

    def steps_done(self) -> int:
        """Return how many steps of its epoch the training sampler has behind it."""
        return self.loader.sampler.steps_done(self.loader.batch_size)

    @property
    def teacher(self) -> nn.Module | None:
        """The moving average of the network, if the adaptation has one."""
        return self.adaptation and self.adaptation.teacher

    def state_dict(self) -> dict:
        """Return what a checkpoint holds; all processes call this, as each has a random state of its own."""
        adapting = {}
        if self.adaptation:
            adapting["adaptation"] = self.adaptation.state_dict()
            adapting["target_sampler"] = self.target.sampler.state_dict()
        return adapting | {
            "state_dict": weights(self.net),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "whitening": self.whitening.state_dict(),
            "sampler": self.loader.sampler.state_dict(),
            "rng": distributed.all_gather_objects(random_state()),
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
        if self.adaptation:
            self.adaptation.load_state_dict(state["adaptation"])
            self.target.sampler.load_state_dict(state["target_sampler"])
        if len(state["rng"]) == distributed.world_size():  # else an epoch's seed serves
            set_random_state(state["rng"][distributed.rank()])
        finished = self.steps_done() >= len(self.loader)
        self.epoch = state["epoch"] + finished
        self.iteration, self.best = state["iteration"], state["best"]


def random_state() -> dict[str, torch.Tensor | None]:
    """Return the state of this process's generators, which dropout draws from."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, torch.Tensor | None]) -> None:
    """Go on from what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def weights(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return a network's entries as checkpoints name them."""
    return {f"module.{key}": value for key, value in net.state_dict().items()}


def save(training: Training, scores: dict[str, Summary], folder: Path, select: Collection[str]) -> None:
    """Write `last_...` (scored on the first dataset), `ema_...` of a teacher, and `best_...` per dataset.

    `ema_...` holds weights alone: a run goes on from the student's.
    The best are of those datasets in `select` that improved. The file a new one replaces goes only after the
    new one is complete.
    """
    improved = [name for name in select if scores[name].mean_iu > training.best.get(name, -1)]
    training.best |= {name: scores[name].mean_iu for name in improved}
    state = training.state_dict()
    if not distributed.is_main():
        return
    first = next(iter(scores), "unscored")
    files = [("last", first, training.net), *(("best", name, training.net) for name in improved)]
    if training.teacher:
        files.append(("ema", f"{first}-teacher", training.teacher))
    for kind, name, net in files:
        mean_iu = scores[name].mean_iu if name in scores else math.nan
        stem = f"{kind}_{name}_epoch_"
        file = folder / f"{stem}{training.epoch}_mean-iu_{mean_iu:.5f}.pth"
        kept = ("settings", "epoch", "iteration", "command") if kind == "ema" else state
        content = {key: state[key] for key in kept}
        checkpoint.save(file, content | {"state_dict": weights(net), "mean_iu": mean_iu})
        for old in folder.glob(f"{stem}*.pth"):
            if old != file:
                old.unlink()
