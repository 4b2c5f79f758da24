"""The checkpoints of a run: the last one, the one before it, and the best of datasets that may choose one."""

import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from utils import bars, checkpoint, distributed, torch_files
from utils.errors import UserError, few
from utils.logging import logger
from utils.training.run import Run
from utils.training.trainer import Scores, Trainer, weights

WEIGHTS = 2  # times its weights is the size of a checkpoint, for their momentum
SAVE_EVERY = 600  # s that a killed run loses at most


class Keeper:
    """Saves `trainer` to the folder of `run` while training goes on; see `save`.

    `first` is the dataset that `last_...` is named after. `previous_...` is the state before `last_...`: a
    second name of the same file, so it takes no time to write.
    """

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        first: str,
        *,
        select: Collection[str] = (),
        keep_last: int = 1,
        every: int | None = None,
    ) -> None:
        self.trainer, self.run, self.folder = trainer, run, run.checkpoints
        self.first, self.select, self.keep_last, self.every = first, select, keep_last, every
        self.writer = checkpoint.BackgroundWriter()
        self.events = run.writer.position()
        self.checked = False  # whether the last checkpoint is known to be sound
        if distributed.is_main():  # only its disk needs the folder
            self.warn_of_little_room()

    def warn_of_little_room(self) -> None:
        """Warn before training if the files do not fit on the disk: last_..., the one before, and best_..."""
        size = WEIGHTS * sum(value.nbytes for value in weights(self.trainer.net).values()) / 2**20
        room = shutil.disk_usage(self.folder).free / 2**20
        if room < (2 + len(self.select)) * size:
            text = "%s: the disk has room for %.0f MiB, but a checkpoint takes about %.0f MiB"
            logger.warning(text, self.folder, room, size)

    def watched(self, show: bars.Show) -> bars.Show:
        """Return `show` that raises the error of writing a checkpoint once it is known, between two items."""

        def steps(items: Iterable[Any], title: str) -> Iterator[Any]:
            for item in show(items, title):
                self.writer.check()
                yield item

        return steps

    def save(self, scores: Mapping[str, Scores] | None = None, complete: bool = True) -> None:
        """Begin to write what is trained, with or before its scores; all processes call this.

        An epoch that is not `complete` is validated again when the run is continued within it, so the events
        of its validation do not count.
        """
        self.trainer.pending = scores is None
        if scores is None or complete:
            self.events = self.run.writer.position()
        self.writer.wait()
        if distributed.is_main():
            self.run.restore()
            self.keep_previous()
        select = [name for name in self.select if name in (scores or {})]
        data = {name: files.record() for name, files in self.trainer.loaders.files.items()}
        more = {"events": dict(self.events), "data": data}
        options = select, self.keep_last, self.writer, self.first, more
        save(self.trainer, scores or {}, self.folder, *options)

    def due(self, seconds: float | None = None) -> bool:
        """Whether to save after this iteration; all processes get the same answer.

        The newest file may still be being written when a run is killed, but the one before it is on disk. So
        saving after half of --save_every_iters loses at most that many iterations. `seconds` is the time per
        step, where it is known. The first one decides how often a run saves that --save_every_iters does not
        tell.
        """
        if seconds and self.every is None:
            self.every = distributed.broadcast_object(max(1, round(SAVE_EVERY / seconds)))
            text = "at most %d iterations (10 minutes) are lost if this run is killed (--save_every_iters)"
            logger.info(text, self.every)
        if not self.every:
            return False
        half = (self.every + 1) // 2
        return self.trainer.iteration % half == 0

    def keep_previous(self) -> None:
        """Give the newest last_... its second name, previous_...; not a damaged one that another run left."""
        found = [path for path in self.folder.glob("last_*.pth") if path.is_file()]
        newest = max(found, key=checkpoint.place_in_run, default=None)
        if newest is None:
            return
        if not self.checked:
            try:
                sound = torch_files.check(newest, "checkpoint")
            except (UserError, OSError):
                sound = False
            if not sound:
                return
            self.checked = True
        second = newest.with_name(newest.name.replace("last_", "previous_", 1))
        older = [path for path in self.folder.glob("previous_*.pth") if path != second]
        try:
            second.unlink(missing_ok=True)
            os.link(newest, second)
        except OSError:  # a file system without hard links keeps only last_...
            return
        for path in older:
            path.unlink()

    def settle(self) -> None:
        """Wait until what was saved is on disk; all processes call this before they end.

        A launcher ends all once one has ended, also the one that writes.
        """
        distributed.from_first_rank(self.writer.wait)

    def finish(self) -> None:
        """Wait until the last checkpoint of a finished run is on disk, then remove `previous_...`."""
        self.writer.wait()
        if distributed.is_main():
            for path in self.folder.glob("previous_*.pth"):
                path.unlink()

    def __enter__(self) -> "Keeper":
        """Set aside the checkpoints that the run leaves behind if it goes back to an earlier one."""
        if distributed.is_main():
            names = [path.name for path in checkpoint.set_aside(self.folder, self.trainer.iteration)]
            if names:
                text = "the run goes back to iteration %d; later checkpoints are set aside: %s"
                logger.warning(text, self.trainer.iteration, few(names))
        return self

    def __exit__(self, *error: Any) -> None:
        """Wait until everything is on disk; raise the error of writing it, or log it after another error."""
        self.writer.__exit__(*error)


def save(
    trainer: Trainer,
    scores: Mapping[str, Scores],
    folder: Path,
    select: Collection[str],
    keep_last: int = 1,
    writer: checkpoint.BackgroundWriter | None = None,
    first: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write `best_...` per dataset, then `ema_...` of a teacher and `last_...`, both of dataset `first`.

    `ema_...` holds only weights: a continued run starts from the student's checkpoint. `best_...` is written
    for each dataset in `select` whose mean IU improved. It comes first, because `last_...` says that it was
    written. The newest `keep_last` files of `last_...` and one of each other kind stay; an older one is
    deleted only once the new one is on disk. `writer` does all that while training goes on.

    Raises UserError on all processes, and writes nothing, if the weights are not finite.
    """
    nets = {"last": trainer.net} | ({"ema": trainer.teacher} if trainer.teacher else {})
    entries = {kind: weights(net) for kind, net in nets.items()}
    for state_dict in entries.values():
        checkpoint.require_finite(state_dict)
    improved = [name for name in select if scores[name].mean_iu > trainer.best.get(name, -1)]
    trainer.best |= {name: scores[name].mean_iu for name in improved}
    state = trainer.state_dict() | dict(more or {})
    if not distributed.is_main():
        return
    first = first or next(iter(scores), "unscored")
    kinds = [("best", name, state | {"state_dict": entries["last"]}) for name in improved]
    if trainer.teacher:
        kept = ("settings", "epoch", "iteration", "command")
        content = {key: state[key] for key in kept} | {"state_dict": entries["ema"]}
        kinds.append(("ema", f"{first}-teacher", content))
    kinds.append(("last", first, state | {"state_dict": entries["last"]}))
    files = []
    for kind, name, content in kinds:
        mean_iu = scores[name].mean_iu if name in scores else math.nan
        stem = f"{kind}_{name}_epoch_"
        path = folder / f"{stem}{trainer.epoch}_mean-iu_{mean_iu:.5f}.pth"
        keep = keep_last if kind == "last" else 1
        files.append(checkpoint.File(path, content | {"mean_iu": mean_iu}, stem, keep))
    if writer:
        writer.submit(files)
    else:
        checkpoint.write_files(files)
