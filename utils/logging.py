"""Where a run writes: folders, log, TensorBoard events; and how a user's mistake ends a program."""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path

import torch
from tensorboardX import SummaryWriter

from utils import distributed

logger = logging.getLogger("robustnet")


def setup(file: Path | None = None) -> None:
    """Send log lines to the console and, if given, to `file`; processes other than the main one only warn."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    handlers = [logging.StreamHandler(sys.stdout), *([logging.FileHandler(file)] if file else [])]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%m-%d %H:%M:%S"))
        logger.addHandler(handler)


@contextlib.contextmanager
def exit_cleanly():
    """End the program with one sentence and exit code 2 on what a user can mend: a bad value or file.

    One of several processes leaves at once: the shutdown of NCCL would wait for processes that wait for it.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {innermost(str(error))}", file=sys.stderr, flush=True)
        if distributed.world_size() > 1:
            os._exit(2)
        raise SystemExit(2) from error
    else:
        distributed.finish()


def innermost(text: str) -> str:
    """Return an error's own sentence, also where a loader worker's traceback is wrapped around it."""
    if not text.startswith("Caught "):
        return text
    return text.strip().splitlines()[-1].partition(": ")[2]


class RunningMeans:
    """Means of named scalars over steps and processes, added without waiting for the device."""

    def __init__(self):
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.since = 0, time.perf_counter()

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Add one step's scalars, the same names each time."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.steps += 1

    def take(self) -> tuple[dict[str, float], float]:
        """Return the means since the last call and the seconds per step; all processes call it together."""
        count = self.steps * distributed.world_size()
        means = {name: (distributed.sum_in_place(total) / count).item() for name, total in self.sums.items()}
        seconds = (time.perf_counter() - self.since) / self.steps
        self.__init__()
        return means, seconds


class NoWriter:
    """Stands in for SummaryWriter on processes that write nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class Run:
    """The folders of one training run, `{root}/{date}/{exp}/{MM_DD_HH}[_n]`, made by the main process.

    checkpoints: folder for .pth files and the log. writer: TensorBoard, silent on all but the main process.
    """

    def __init__(self, ckpt: str, tb_path: str, date: str, exp: str, tag: str = ""):
        hour = time.strftime("%m_%d_%H")
        name = Path(date, exp)
        stamp = distributed.broadcast_object(
            self._free_stamp([Path(ckpt) / name, Path(tb_path) / name], hour)
        )
        self.checkpoints = Path(ckpt) / name / stamp
        self.tensorboard = Path(tb_path) / name / (stamp + tag)
        self.writer = NoWriter()
        if distributed.is_main():
            self.checkpoints.mkdir(parents=True)
            self.writer = SummaryWriter(str(self.tensorboard))
        setup(self.checkpoints / "log.txt" if distributed.is_main() else None)

    @staticmethod
    def _free_stamp(parents: list[Path], hour: str) -> str:
        """Return `hour`, with the first suffix _2, _3, .. that no earlier run has if there was one."""
        taken = {folder.name for parent in parents if parent.is_dir() for folder in parent.iterdir()}
        stamp, n = hour, 1
        while any(name.startswith(stamp) and name[len(stamp) : len(stamp) + 1] != "_" for name in taken):
            n += 1
            stamp = f"{hour}_{n}"
        return stamp
