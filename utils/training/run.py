"""Where a training run writes: its folders, log.txt, run.json and TensorBoard events."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy
import torch

from utils import distributed
from utils.errors import UserError
from utils.files import write_text
from utils.logging import logger, setup
from utils.training.events import EventWriter, NoWriter, Position

ROOT = Path(__file__).parents[2]
NO_LOCKS = {errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}  # of file systems without locks

claimed: dict[Path, int] = {}  # folders of this process's runs, and the open files that hold their locks


class Run:
    """The folders of one training run, `{root}/{date}/{exp}/{MM_DD_HH}[_n]`; the main process makes them.

    `checkpoints` is the folder of the .pth files and the log. `tensorboard` is the folder of the events.
    `writer` writes the events; only the main process has one that does. With `continued`, the folder of a
    run's checkpoints, that run's files are continued, the events from `position` on. Otherwise, with `again`,
    the folder of a run that was begun by the same command and ended without a checkpoint is used anew.

    The main process holds the folder while it lives. Raises UserError if another one does; see `claim`.
    """

    def __init__(
        self,
        ckpt: str,
        tb_path: str,
        date: str,
        exp: str,
        tag: str = "",
        *,
        continued: Path | None = None,
        position: Position | None = None,
        again: bool = False,
    ) -> None:
        checkpoints, tensorboard = Path(ckpt, date, exp), Path(tb_path, date, exp)
        self.is_new = continued is None
        self.text = ""  # of run.json, once the main process has written it

        def place() -> Path:
            if continued is not None:
                return claim(continued)
            if again and (folder := without_checkpoint(checkpoints)):
                return folder
            return claim(checkpoints / make_folders(checkpoints, tensorboard, tag))

        self.checkpoints: Path = distributed.from_first_rank(place)
        self.tensorboard = tensorboard / (self.checkpoints.name + tag)
        self.writer: EventWriter | NoWriter = NoWriter()
        if distributed.is_main():
            if self.is_new and (events := sorted(self.tensorboard.glob("events.out.tfevents.*"))):
                position = {"file": events[-1].name, "bytes": 0}  # of the run that ended without a checkpoint
            self.writer = EventWriter(self.tensorboard, position)
        setup(self.checkpoints / "log.txt" if distributed.is_main() else None)

    def record(self, facts: Mapping[str, Any]) -> None:
        """Write run.json, and the same as text of TensorBoard; a continued run adds to `starts`."""
        if not distributed.is_main():
            return
        file = self.checkpoints / "run.json"
        try:
            starts = json.loads(file.read_text())["starts"]
        except (OSError, ValueError, KeyError, TypeError):
            starts = []
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        starts.append({"time": now, "command": sys.argv, "launch": launch_id()})
        self.text = json.dumps({**facts, **environment(), "starts": starts}, indent=1, default=str) + "\n"
        write_text(file, self.text)
        if self.is_new:
            self.writer.add_text("run", f"```\n{self.text}```")

    def restore(self) -> None:
        """Write the lock and run.json again, with a warning, if someone has removed them."""
        file = self.checkpoints / "run.json"
        if self.text and not file.exists():
            if (lock := claimed.pop(self.checkpoints, None)) is not None:
                os.close(lock)
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            claim(self.checkpoints)
            write_text(file, self.text)
            logger.warning("%s was removed: earlier checkpoints may be lost; the run goes on", file)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.writer.close()
        if (lock := claimed.pop(self.checkpoints, None)) is not None:
            os.close(lock)


def words_of_run() -> list[str]:
    """Return the words of this process's command that say which run it is: all but --resume and its value."""
    words, skip = [], False
    for word in sys.argv:
        if not skip and not word.startswith("--resume="):
            skip = word == "--resume"
            words += [] if skip else [word]
        else:
            skip = False
    return words


def claim(folder: Path, sure: bool = False) -> Path:
    """Lock the folder of a run until the run or this process ends, and return it.

    The file of the lock holds the command without --resume. Loader processes do not inherit the lock. Raises
    UserError if another process has it and, if `sure`, on a file system without locks, where it is not known.
    """
    if folder in claimed:
        return folder
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if sure or error.errno not in NO_LOCKS:
            os.close(lock)
            raise UserError(
                f"another process trains in {folder}; wait until it ends, or leave out --resume to start "
                "another run"
            ) from error
    with contextlib.suppress(OSError):  # of a full disk
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(words_of_run()).encode(), 0)
    claimed[folder] = lock
    return folder


def without_checkpoint(experiment: Path) -> Path | None:
    """Return the claimed folder of a run that began by this command and ended before its first checkpoint."""
    for file in sorted(experiment.glob("*/.lock")):
        folder = file.parent
        if folder in claimed or any(folder.glob("*.pth")):
            continue
        try:
            if json.loads(file.read_text()) == words_of_run():
                claim(folder, sure=True)
                logger.info("%s has no checkpoint, so its run begins anew", folder)
                return folder
        except (OSError, ValueError):  # UserError is a ValueError: the folder is in use
            continue
    return None


def check_writable(*folders: Path) -> None:
    """Raise UserError where nothing can be written to one of `folders`, which need not exist yet."""
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"nothing can be written to {folder}: {existing} is not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"nothing can be written to {folder}: {existing} is read-only")


def make_folders(checkpoints: Path, tensorboard: Path, tag: str) -> str:
    """Make the two folders of a new run; return their name, the hour, or the hour with _2, _3, ...

    Several processes that start at one time never get the same folder.
    """
    hour, n = time.strftime("%m_%d_%H"), 1
    while True:
        stamp = hour if n == 1 else f"{hour}_{n}"
        n += 1
        if taken(checkpoints, stamp) or taken(tensorboard, stamp):
            continue
        checkpoints.mkdir(parents=True, exist_ok=True)
        try:
            (checkpoints / stamp).mkdir()
        except FileExistsError:
            continue
        try:
            (tensorboard / (stamp + tag)).mkdir(parents=True)
        except FileExistsError:
            both = checkpoints / stamp, tensorboard / (stamp + tag)
            if not os.path.samefile(*both):  # the published scripts write both to one
                (checkpoints / stamp).rmdir()
                continue
        return stamp


def taken(parent: Path, stamp: str) -> bool:
    """Whether a run has the name `stamp`, also with a --tb_tag after it."""
    names = [folder.name for folder in parent.glob(f"{stamp}*")]
    return any(name[len(stamp) : len(stamp) + 1] != "_" for name in names)


def launch_id() -> str | None:
    """Return what torchrun names a launch and its restarts by; None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def environment() -> dict[str, Any]:
    """Return the code's commit and whether it is unchanged, the versions, and the devices."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "commit": git("rev-parse", "HEAD"),
        "unchanged": git("status", "--porcelain", "--untracked-files=no") == "",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": metadata.version("torchvision"),
            "numpy": numpy.__version__,
            "cuda": torch.version.cuda,
        },
        "devices": gpus or ["cpu"],
        "host": platform.node(),
        "processes": distributed.world_size(),
    }


def git(*words: str) -> str | None:
    """Return what git prints about the folder of the code; None without git or a repository."""
    try:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("%s", error)
        return None
