"""What training changes, and one step of it."""

import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from utils import distributed, settings
from utils.errors import UserError
from utils.logging import RunningMeans, logger

Batch = dict[str, Any]
ADDED_LATER = {"pending", "means"}  # entries that earlier checkpoints lack


class Scores(NamedTuple):
    """Scores of one validation dataset; the names are the TensorBoard tags."""

    acc: float
    acc_cls: float
    mean_iu: float
    val_loss: float


class Epoch(NamedTuple):
    """This run does the steps `done` + 1 to `stop` of an epoch of `length` steps.

    `done` is above 0 if a continued run starts within the epoch. `stop` is below `length` if the run reaches
    its last iteration within the epoch.
    """

    done: int
    stop: int
    length: int

    @property
    def complete(self) -> bool:
        """Whether the epoch has no steps left after `stop`."""
        return self.stop == self.length


class TrainingLoaders(Protocol):
    """The part of datasets.loaders.Loaders that training reads."""

    @property
    def train(self) -> Any: ...  # a DataLoader whose sampler has a position

    @property
    def target(self) -> Any: ...  # the same of target images, or None

    @property
    def photometric(self) -> Callable[..., Tensor] | None: ...

    @property
    def steps_per_batch(self) -> int: ...


@dataclass
class Trainer:
    """Everything that training changes, and so everything a checkpoint holds; `step` changes it.

    To change what a step does, subclass this class, override `source_losses`, `target_losses` or the whole
    `step`, and make that class in train.build. A loss that is added to the dictionary of `source_losses` is
    trained and logged:

        class WithEntropy(Trainer):
            def source_losses(self, image, label):
                losses = super().source_losses(image, label)
                return losses | {"entropy": ...}
    """

    net: nn.Module
    losses: Callable[..., dict[str, Tensor]]  # (network output, label, iteration) -> scalars to add up
    whitening: Any  # network.instance_whitening.Whitening
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    loaders: TrainingLoaders
    settings: dict[str, Any]  # utils.settings.record
    adaptation: Any = None  # to a target domain
    epoch: int = 0  # number of the epoch that is trained now or next, from 0
    iteration: int = 0  # iterations finished so far
    best: dict[str, float] = field(default_factory=dict)  # mean IU by validation dataset
    pending: bool = False  # the steps of the epoch are not followed by its statistics and validation yet

    def __post_init__(self) -> None:
        self.device: torch.device = next(self.net.parameters()).device
        self.model = self.net  # what is called in training: `net`, or its wrapper for several processes
        self.means = RunningMeans()  # of the losses since the last log line
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings["fp16"] and self.device.type == "cuda"
        )

    @property
    def teacher(self) -> nn.Module | None:
        """The moving average of the network, if the adaptation has one."""
        return self.adaptation and self.adaptation.teacher

    # One step

    def step(self, batch: Batch, target: Batch | None = None) -> None:
        """Train on one batch of the source domains and, while adapting, one of target views.

        That is one iteration. It has one optimizer step, or one for each source domain (--domain_steps
        separate, which config refuses with a target). The gradients of source and target losses add up.
        A target without a loss (batch norm adaptation) comes after the optimizer step. `means` collects the
        losses as they are added up: times their weights.
        """
        image, label = self.to_device(batch)
        steps = self.loaders.steps_per_batch
        for step in range(steps):  # of several, each has one domain: image b is of domain b % steps
            losses = self.source_losses(image[step::steps], label[step::steps])
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(total(losses)).backward()
            if target and self.adaptation.has_loss:
                adapted = self.target_losses(self.views_to_device(target))
                for loss in adapted.values():
                    self.scaler.scale(loss).backward()
                losses |= adapted
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if target and not self.adaptation.has_loss:
                self.target_losses(self.views_to_device(target))
            self.means.add(losses | {"train": total(losses).detach()})
        self.schedule.step()
        self.iteration += 1
        self.loaders.train.sampler.advance(self.loaders.train.batch_size)

    def source_losses(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Return the scalar losses of labelled images (B, 3, H, W), label (B, H, W), by their log names."""
        with self.autocast():
            output = self.model(image)
        losses = self.losses(output, label, self.iteration)
        if output.whitened:
            losses["whitening"] = self.settings["wt_reg_weight"] * self.whitening.loss(output.whitened)
        return losses

    def target_losses(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the scalar losses of target views, (N, ...) each, by their log names."""
        with self.autocast():
            return self.adaptation.losses(self.model, views)

    def autocast(self) -> torch.autocast:
        """Return the context of --fp16: float16 on a GPU, bfloat16 on a CPU; none without the flag."""
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, half, self.settings["fp16"])

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W), augmented and normalized, and labels (B, H, W), on the device."""
        image = batch["image"].to(self.device, non_blocking=True)
        label = batch["label"].to(self.device, non_blocking=True)
        if self.loaders.photometric:
            image = self.loaders.photometric(image, batch["photometric"])
        return image, label

    def views_to_device(self, target: Batch) -> dict[str, Tensor]:
        """Return the views of a batch of target images as one batch (N, ...) on the device."""
        tensors = {key: value for key, value in target.items() if key != "name"}
        return {k: v.flatten(0, 1).to(self.device, non_blocking=True) for k, v in tensors.items()}

    # Epochs

    def start_epoch(self, last_iteration: int, most_steps: int | None = None) -> Epoch:
        """Prepare data, dropout and networks for the current epoch; return the steps of it to do.

        A continued run starts where the sampler was left. `most_steps` shortens the epoch (--test_mode).
        """
        loader = self.loaders.train
        loader.dataset.set_epoch(self.epoch)
        loader.sampler.set_epoch(self.epoch)
        done = self.steps_done()
        if not done:
            seed = self.settings["seed"], self.epoch, distributed.rank()
            torch.manual_seed(hash(seed))  # of the dropout
            self.means.reset()
        self.pending = True
        self.model.train()
        if self.adaptation:
            self.adaptation.prepare(self.net)
        self.means.restart_clock()
        length = len(loader) if most_steps is None else min(len(loader), most_steps)
        return Epoch(done, min(length, done + last_iteration - self.iteration), length)

    def steps_done(self) -> int:
        """Return how many steps of its epoch the training sampler has done."""
        return self.loaders.train.sampler.steps_done(self.loaders.train.batch_size)

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds; all processes call this, because each has its own random state."""
        adapting = {}
        if self.adaptation:
            adapting["adaptation"] = self.adaptation.state_dict()
            adapting["target_sampler"] = self.loaders.target.sampler.state_dict()
        return adapting | {
            "state_dict": weights(self.net),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "whitening": self.whitening.state_dict(),
            "sampler": self.loaders.train.sampler.state_dict(),
            "rng": distributed.all_gather_objects(random_state()),
            "means": distributed.all_gather_objects(self.means.state_dict()),
            "settings": self.settings,
            "epoch": self.epoch,  # the sampler's position says which steps of it are done
            "iteration": self.iteration,
            "best": self.best,
            "pending": self.pending,
            "command": shlex.join(sys.argv),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, with changed settings where that is possible; the log lists the changes.

        Raises UserError if `state` lacks an entry or has settings that must not change (utils.settings).
        """
        if lacking := sorted(set(self.state_dict()) - set(state) - ADDED_LATER):
            raise UserError(
                f"the checkpoint cannot be continued, because it lacks {', '.join(lacking)}; leave out "
                "--restore_optimizer to start from its weights"
            )
        changes = settings.compare(settings.recorded(state), self.settings)
        try:
            self.net.load_state_dict({k.removeprefix("module."): v for k, v in state["state_dict"].items()})
        except RuntimeError as error:
            raise UserError(f"the weights of the checkpoint do not fit this network: {error}") from error
        self._load_optimizer(state, changes)
        self.scaler.load_state_dict(state["scaler"])
        self.whitening.load_state_dict(state["whitening"])
        self.loaders.train.sampler.load_state_dict(state["sampler"])
        if self.adaptation:
            self.adaptation.load_state_dict(state["adaptation"])
            self.loaders.target.sampler.load_state_dict(state["target_sampler"])
        if len(state["rng"]) == distributed.world_size():  # else the next epoch is seeded anew
            set_random_state(state["rng"][distributed.rank()])
            if "means" in state:
                self.means.load_state_dict(state["means"][distributed.rank()], self.device)
        self.pending = state.get("pending", False)
        finished = self.steps_done() >= len(self.loaders.train) and not self.pending
        self.epoch = state["epoch"] + finished
        self.iteration, self.best = state["iteration"], state["best"]
        for name, (old, new) in changes.items():
            logger.info("%s %s -> %s from iteration %d on", name, old, new, self.iteration)

    def _load_optimizer(self, state: dict[str, Any], changes: Collection[str]) -> None:
        """Restore optimizer and schedule, then apply those of their settings that are in `changes`.

        Without such changes every restored number stays bit for bit.
        """
        before, now = (
            [len(group["params"]) for group in groups]
            for groups in (state["optimizer"]["param_groups"], self.optimizer.param_groups)
        )
        if before != now:
            raise UserError(
                f"the checkpoint's optimizer has groups of {before} parameters, not {now}; --lr_bias, "
                "--lr_head and --weight_decay_bias make the groups, which must stay in a continued run; "
                "leave out --restore_optimizer to start from the weights"
            )
        base_lrs = list(self.schedule.base_lrs)
        options = [
            {key: group[key] for key in ("momentum", "weight_decay") if key in group}
            for group in self.optimizer.param_groups
        ]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        if set(changes) & (settings.OPTIMIZER_FLAGS | settings.SCHEDULE_FLAGS):
            self.schedule.base_lrs = base_lrs
            factors = [factor(self.schedule.last_epoch) for factor in self.schedule.lr_lambdas]
            for group, base, factor, new in zip(
                self.optimizer.param_groups, base_lrs, factors, options, strict=True
            ):
                group |= new | {"initial_lr": base, "lr": base * factor}
            self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def total(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of the losses, in the order of the dictionary."""
    first, *others = losses.values()
    return sum(others, first)


def random_state() -> dict[str, Tensor | None]:
    """Return the state of this process's random generators, which dropout draws from."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Tensor | None]) -> None:
    """Restore what `random_state` returned."""
    if state["cpu"] is not None:
        torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a network under the names that checkpoints use."""
    return {f"module.{key}": value for key, value in net.state_dict().items()}
