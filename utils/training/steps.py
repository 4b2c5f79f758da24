"""The log lines and curves of training."""

import math
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch

from utils import bars
from utils.errors import UserError
from utils.logging import logger
from utils.training import tensorboard
from utils.training.guard import Guard
from utils.training.trainer import Trainer


class StepLog:
    """Logs the mean losses of `trainer` since the last log line, and how fast it is on its way to `last`."""

    def __init__(self, trainer: Trainer, writer: tensorboard.Writer, last: int) -> None:
        self.trainer, self.writer, self.last = trainer, writer, last
        self.guard = Guard(trainer)
        self.first, self.started = trainer.iteration, time.perf_counter()
        self.waited, self.labelled = 0.0, False
        self.bar = bars.Bar("training", last, trainer.iteration, unit="it")

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches of an epoch and measure how long they are waited for; the bar follows."""
        batches = iter(batches)
        self.bar.set_description_str(f"epoch {self.trainer.epoch}", refresh=False)
        while True:
            self.bar.at(self.trainer.iteration)
            before = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - before
            if batch is None:
                return
            self.count_replaced(batch)
            yield batch

    def count_replaced(self, pair: Iterable[Any]) -> None:
        """Count the data of a step that stand in for what cannot be read; UserError if they are too many.

        `pair` is the step's batch and its target views or None.
        """
        for batch in pair:
            if batch and "unreadable" in batch:
                self.trainer.left_out.note(batch.pop("unreadable"))
                self.trainer.left_out.limit(len(self.trainer.loaders.train.sampler))

    def write(self, step: int, steps: int) -> float:
        """Log step `step` of an epoch of `steps`; return the seconds per step.

        All processes call this. Raises UserError if no step has a finite loss, or if no image of the whole
        epoch has a labelled pixel.
        """
        trainer = self.trainer
        count = trainer.means.timed
        means, seconds = trainer.means.take()
        lr = float(trainer.schedule.get_last_lr()[0])
        text = "[epoch %d], [iter %d / %d : %d], [loss %.6f], [lr %.6f], [time %.4f]"
        values = trainer.epoch, step, steps, trainer.iteration, means["train"], lr, seconds
        self.bar.at(trainer.iteration)
        logger.info(f"{text}{self.pace(seconds, count)}", *values)
        self.waited = 0.0
        tensorboard.losses(self.writer, means, lr, trainer.iteration)
        if not math.isfinite(means["train"]):
            losses = ", ".join(f"{name} {mean}" for name, mean in means.items())
            raise UserError(f"the loss is not finite at iteration {trainer.iteration}: {losses}; lower --lr")
        self.labelled = self.labelled or trainer.means.labelled
        if not trainer.means.labelled:
            logger.warning("nothing was trained since the last log line: no image has a labelled pixel")
        if step == steps:
            if not self.labelled:
                text = f"no image of epoch {trainer.epoch} has a labelled pixel, so nothing was trained"
                raise UserError(f"{text}; look at the labels of {', '.join(trainer.settings['dataset'])}")
            self.labelled = False
            trainer.left_out.summary(f"epoch {trainer.epoch}")
        return seconds

    def pace(self, seconds: float, count: int) -> str:
        """Return the end of a log line: place in the run, images per second, waiting, memory, time left."""
        done, now = self.trainer.iteration, time.perf_counter()
        left = (self.last - done) * (now - self.started) / max(1, done - self.first)
        images = self.trainer.settings.get("images_per_step", 0) / seconds
        text = f", [total {done} / {self.last}], [{images:.1f} images/s]"
        text += f", [data {self.waited / max(1, count):.4f}]"
        if self.trainer.device.type == "cuda":
            text += f", [GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB]"
        return f"{text}, [ETA {timedelta(seconds=round(left))}]"
