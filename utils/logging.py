"""Where a run writes: folders, log and TensorBoard events."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tensorboardX import SummaryWriter

from utils import distributed

logger = logging.getLogger("robustnet")


def setup(file: Path | None = None) -> None:
    """Send log lines to the console and, if given, to `file`. Processes other than the main one only warn."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    handlers += [logging.FileHandler(file)] if file else []
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%m-%d %H:%M:%S"))
        logger.addHandler(handler)


class RunningMeans:
    """Means of named scalars over steps and processes, added without waiting for the device."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all values and start the clock again."""
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.since = 0, time.perf_counter()

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Add the scalars of one step. Every step has the same names."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.steps += 1

    def take(self) -> tuple[dict[str, float], float]:
        """Return the means since the last call and the seconds per step; all processes call it together."""
        count = self.steps * distributed.world_size()
        means = {name: (distributed.sum_in_place(total) / count).item() for name, total in self.sums.items()}
        seconds = (time.perf_counter() - self.since) / self.steps
        self.reset()
        return means, seconds


class NoWriter:
    """Has the methods of SummaryWriter, which do nothing: for processes that write no events."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


class Run:
    """The folders of one training run, `{root}/{date}/{exp}/{MM_DD_HH}[_n]`; the main process makes them.

    `checkpoints` is the folder of the .pth files and the log. `tensorboard` is the folder of the events.
    `writer` writes the events; only the main process has one that does.
    """

    def __init__(self, ckpt: str, tb_path: str, date: str, exp: str, tag: str = "") -> None:
        hour = time.strftime("%m_%d_%H")
        name = Path(date, exp)
        stamp = distributed.broadcast_object(
            self._free_stamp([Path(ckpt) / name, Path(tb_path) / name], hour)
        )
        self.checkpoints = Path(ckpt) / name / stamp
        self.tensorboard = Path(tb_path) / name / (stamp + tag)
        self.writer: SummaryWriter | NoWriter = NoWriter()
        if distributed.is_main():
            self.checkpoints.mkdir(parents=True)
            self.writer = SummaryWriter(str(self.tensorboard))
        setup(self.checkpoints / "log.txt" if distributed.is_main() else None)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()

    @staticmethod
    def _free_stamp(parents: list[Path], hour: str) -> str:
        """Return `hour`, or `hour` with the first of _2, _3, .. that no earlier run has taken."""
        taken = {folder.name for parent in parents if parent.is_dir() for folder in parent.iterdir()}
        stamp, n = hour, 1
        while any(name.startswith(stamp) and name[len(stamp) : len(stamp) + 1] != "_" for name in taken):
            n += 1
            stamp = f"{hour}_{n}"
        return stamp
