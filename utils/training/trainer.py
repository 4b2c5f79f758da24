"""The trainer: one step of training, and the state that it changes."""

import shlex
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from utils import distributed, settings
from utils.errors import UserError
from utils.inventory import Inventory
from utils.logging import logger
from utils.training.left_out import LeftOut
from utils.training.means import RunningMeans
from utils.training.random_state import random_state, set_random_state
from utils.training.speed import CapturedStep

Batch = dict[str, Any]
ADDED_LATER = {"pending", "means", "left_out"}  # entries that earlier checkpoints lack
AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of --amp


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

    @property
    def files(self) -> dict[str, Inventory]: ...  # by dataset


@dataclass
class Trainer:
    """Everything that training changes, and so everything a checkpoint holds; `step` changes it.

    To change what a step does, subclass this class, override `losses_of`, `target_losses` or the whole
    `step`, and construct that class in train.build. A loss that is added to the dictionary of `losses_of` is
    trained and logged. A class with its own `losses_of` trains without --compile and --cuda_graph.

        class WithEntropy(Trainer):
            def losses_of(self, output, label):
                probs = output.logits.softmax(1)
                entropy = -(probs * probs.clamp(min=1e-7).log()).sum(1).mean()
                return super().losses_of(output, label) | {"entropy": 0.01 * entropy}
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
    pending: bool = False  # whether an epoch has begun whose steps and validation are not all done

    def __post_init__(self) -> None:
        self.device: torch.device = next(self.net.parameters()).device
        self.model = self.net  # what is called in training: `net`, or its wrapper for several processes
        self.averages_gradients = False  # whether `backward` itself exchanges gradients with other processes
        self.means = RunningMeans()  # of the losses since the last log line
        self.left_out = LeftOut()  # data of the current epoch
        self.amp = AMP_TYPES.get(self.settings.get("amp", "none"))
        is_fp16 = self.amp == torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=is_fp16)
        self.layout = torch.channels_last if self.settings.get("channels_last") else torch.preserve_format
        self.phase = 0  # the iteration that the losses are told; see `phase` of loss.HeadLosses
        self.compiled: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None  # source_losses
        self.captured: CapturedStep | None = None
        wanted = [name for name in ("compile", "cuda_graph") if self.settings.get(name)]
        if wanted and not (hasattr(self.losses, "phase") and computes_as_trainer(type(self))):
            logger.warning("--%s: left out, because this Trainer has losses of its own", " --".join(wanted))
            return
        if "compile" in wanted:
            self.compiled = torch.compile(self.source_losses, dynamic=False)  # sizes are few
        if "cuda_graph" in wanted:
            self.captured = CapturedStep(self.backward, self.forget_gradients)

    def join(self) -> None:
        """Share the training with the other processes: the same weights, averaged gradients.

        DistributedDataParallel exchanges them during the backward pass. Its hooks can be neither compiled nor
        captured, so compiled and captured steps exchange them in one message after that pass.
        """
        if self.compiled or self.captured:
            distributed.copy_from_main(self.net.state_dict().values())
            self.averages_gradients = True
            return
        devices = [self.device] if self.device.type == "cuda" else None
        options = {"gradient_as_bucket_view": True, "broadcast_buffers": False}  # all have the same buffers
        self.model = DistributedDataParallel(self.net, devices, **options)  # type: ignore[arg-type]

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
            losses = self.source_gradients(image[step::steps], label[step::steps])
            if target and self.adaptation.has_loss:
                adapted = self.target_losses(self.views_to_device(target))
                for loss in adapted.values():
                    self.scaler.scale(loss).backward()
                losses |= {name: loss.detach() for name, loss in adapted.items()}
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if target and not self.adaptation.has_loss:
                self.target_losses(self.views_to_device(target))
            self.means.add(losses | {"train": total(losses)})
        self.schedule.step()
        self.iteration += 1
        self.loaders.train.sampler.advance(self.loaders.train.batch_size)

    def source_gradients(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Set the gradients of labelled images (B, 3, H, W), label (B, H, W); return the scalar losses."""
        if hasattr(self.losses, "phase"):
            self.phase = self.losses.phase(self.iteration)
        else:
            self.phase = self.iteration
        if self.captured:
            kind = tuple(image.shape), self.phase, self.whitening.trials > 0
            return self.captured(kind, image, label)
        self.forget_gradients()
        return self.backward(image, label)

    def forget_gradients(self) -> None:
        """Set all gradients to None."""
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Add the gradients of labelled images; return the scalar losses by their log names.

        With --micro_batch, images pass in parts. Each part counts by its share of the images.
        """
        size = self.settings.get("micro_batch") or len(image)
        parts = list(zip(image.split(size), label.split(size), strict=True))
        sums: dict[str, Tensor] = {}
        for number, (images, labels) in enumerate(parts, start=1):
            with self.gradients_stay_local(number < len(parts)):
                losses = (self.compiled or self.source_losses)(images, labels)
                if len(parts) > 1:
                    losses = {name: loss * (len(images) / len(image)) for name, loss in losses.items()}
                self.scaler.scale(total(losses)).backward()
            for name, loss in losses.items():
                sums[name] = sums[name] + loss.detach() if name in sums else loss.detach()
        if self.averages_gradients:
            distributed.average_gradients(self.net.parameters())
        return sums

    def gradients_stay_local(self, local: bool) -> AbstractContextManager:
        """Return a context in which processes do not exchange gradients if `local`."""
        if local and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    def source_losses(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Return the scalar losses of labelled images (B, 3, H, W), label (B, H, W), by their log names."""
        with self.autocast():
            output = self.model(image)
        return self.losses_of(output, label)

    def losses_of(self, output: Any, label: Tensor) -> dict[str, Tensor]:
        """Return the scalar losses of a network's SegOutput and label (B, H, W), by log names."""
        losses = self.losses(output, label, self.phase)
        if output.whitened:
            losses["whitening"] = self.settings["wt_reg_weight"] * self.whitening.loss(output.whitened)
        return losses

    def target_losses(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the scalar losses of target views, (N, ...) each, by their log names."""
        with self.autocast():
            return self.adaptation.losses(self.model, views)

    def autocast(self) -> torch.autocast:
        """Return the context of --amp; it does nothing without that flag."""
        return torch.autocast(self.device.type, self.amp or torch.bfloat16, self.amp is not None)

    def to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W), augmented and normalized, and labels (B, H, W), on the device."""
        image = batch["image"].to(self.device, non_blocking=True)
        label = batch["label"].to(self.device, non_blocking=True).long()
        if self.loaders.photometric:
            image = self.loaders.photometric(image, batch.get("photometric"))
        return image.contiguous(memory_format=self.layout), label

    def views_to_device(self, target: Batch) -> dict[str, Tensor]:
        """Return the views of a batch of target images as one batch (N, ...) on the device."""
        tensors = {key: value for key, value in target.items() if isinstance(value, Tensor)}
        return {k: v.flatten(0, 1).to(self.device, non_blocking=True) for k, v in tensors.items()}

    # Epochs

    def start_epoch(self, last_iteration: int, most_steps: int | None = None) -> Epoch:
        """Prepare data, dropout and networks for the current epoch; return the steps of it to do.

        A continued run starts where the sampler was left. `most_steps` shortens the epoch (--test_mode).
        """
        loader = self.loaders.train
        loader.dataset.set_epoch(self.epoch)
        loader.sampler.set_epoch(self.epoch)
        length = len(loader) if most_steps is None else min(len(loader), most_steps)
        done = min(self.steps_done(), length)  # there may be fewer images than before
        if not done:
            seed = self.settings["seed"], self.epoch, 0
            torch.manual_seed(hash(seed))  # of the dropout, which all processes draw alike
            self.means.reset()
        self.pending = True
        self.model.train()
        if self.adaptation:
            self.adaptation.prepare(self.net)
        self.means.restart_clock()
        return Epoch(done, min(length, done + last_iteration - self.iteration), length)

    def steps_done(self) -> int:
        """Return how many steps of its epoch the training sampler has done."""
        return self.loaders.train.sampler.steps_done(self.loaders.train.batch_size)

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds; all processes call this, because each has its own means."""
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
            "rng": distributed.all_gather_objects(random_state()),  # all alike; a list, as in older files
            "means": distributed.all_gather_objects(self.means.state_dict()),
            "left_out": self.left_out.gathered(),
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
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.whitening.load_state_dict(state["whitening"])
        self.loaders.train.sampler.load_state_dict(state["sampler"])
        if self.adaptation:
            self.adaptation.load_state_dict(state["adaptation"])
            self.loaders.target.sampler.load_state_dict(state["target_sampler"])
        set_random_state(state["rng"][0])  # which all processes share
        if "means" in state:
            self.means.load_state_dict(state["means"], self.device)
        self.left_out.restore(state.get("left_out", {}))
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
        before = [len(group["params"]) for group in state["optimizer"]["param_groups"]]
        now = [len(group["params"]) for group in self.optimizer.param_groups]
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
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, value in zip(self.optimizer.param_groups, fused, strict=True):
            group["fused"] = value  # of this run, not the checkpoint's
        match_layouts(self.optimizer)
        self.schedule.load_state_dict(state["scheduler"])
        if set(changes) & (settings.OPTIMIZER_FLAGS | settings.SCHEDULE_FLAGS):
            self.schedule.base_lrs = base_lrs
            factors = [factor(self.schedule.last_epoch) for factor in self.schedule.lr_lambdas]
            for group, base, factor, new in zip(
                self.optimizer.param_groups, base_lrs, factors, options, strict=True
            ):
                group |= new | {"initial_lr": base, "lr": base * factor}
            self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def computes_as_trainer(kind: type) -> bool:
    """Whether a class computes the losses of source domains as Trainer does."""
    names = ("losses_of", "source_losses", "backward", "source_gradients")
    return all(getattr(kind, name) is getattr(Trainer, name) for name in names)


def total(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of the losses, in the order of the dictionary."""
    first, *others = losses.values()
    return sum(others, first)


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give what the optimizer keeps for each parameter that parameter's memory format."""
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the entries of a network under the names that checkpoints use."""
    return {f"module.{key}": value for key, value in net.state_dict().items()}
