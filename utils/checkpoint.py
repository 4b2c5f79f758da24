"""Checkpoints: written whole and flushed to disk, checked when they are read, and reading runs no code."""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils import distributed, torch_files
from utils.errors import DamagedFile, MissingFile, UserError
from utils.files import remove_stale

logger = logging.getLogger("robustnet")

VERSION = 2  # 2: the networks of network.archs.REBUILT are the published ones
NAMES_SHOWN = 6  # in a message
ASIDE = "aside_"  # begins the names of checkpoints that a run left behind when it went back


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`, whole or not at all, with a hash that `load` checks.

    Unfinished files of dead processes are removed from the folder. Raises UserError, and leaves the file at
    `path` as it is, if weights are not finite (see `require_finite`) or the disk is full (DiskFull).
    """
    require_finite(state.get("state_dict", {}))
    remove_stale(path.parent)
    content = {**state, "version": VERSION}
    try:
        torch_files.write(path, content)
    except MissingFile as error:
        logger.warning("%s; it is written again", error)
        torch_files.write(path, content)


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise UserError that names the entries of a state dict with a number that is not finite."""
    floats = {name: value for name, value in weights.items() if value.is_floating_point()}
    if not floats:
        return
    finite = torch.stack([value.isfinite().all() for value in floats.values()]).tolist()  # waits once
    names = [name for name, fine in zip(floats, finite, strict=True) if not fine]
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        raise UserError(
            f"the weights {', '.join(names[:NAMES_SHOWN])}{more} are not finite, so no checkpoint is "
            "written; continue from the last one with a lower --lr"
        )


def load(path: str | Path) -> dict:
    """Return the checkpoint at `path`, on the CPU; of a folder the newest sound one.

    It holds tensors, numbers and strings only. Raises MissingFile if there is no file, DamagedFile for one
    whose content is not what was written, and UserError for a file that is not a checkpoint or that holds
    anything that would run code.
    """
    return _with_weights(torch_files.read(find(path), "checkpoint"), path)


def load_on_all(path: str | Path) -> dict:
    """Return what `load` returns; UserError if it is not the same on all processes, which call this together.

    Each process reads the file. Another program may replace it meanwhile, or each machine have a file of its
    own. The entry sha256 is the hash of the file that this process read.
    """
    state, sha256 = torch_files.read_hashed(find(path), "checkpoint")
    state, digest = _with_weights(state, path) | {"sha256": sha256}, hashlib.sha256()
    for value in state["state_dict"].values() if distributed.world_size() > 1 else ():
        if isinstance(value, Tensor):
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    if len(set(distributed.all_gather_objects(digest.digest()))) > 1:
        raise UserError(
            f"{path} was replaced by another file while it was read, or is another one on each machine; "
            "start again with one file"
        )
    return state


def _with_weights(state: Any, path: str | Path) -> dict:
    if not isinstance(state, dict) or "state_dict" not in state:
        raise UserError(
            f"{path} holds no state_dict; expected a checkpoint of this project or the published code"
        )
    return state


def title(path: Path) -> str:
    """Name a checkpoint in tables by run, kind and epoch, "isw/11_29_13 last epoch 9"; others by the file."""
    found = re.fullmatch(r"(last|previous|best_.+|ema)(_.+)?_epoch_(\d+)_mean-iu_.+", path.stem)
    if not found:
        return path.stem
    folder = path.absolute().parent
    run = f"{folder.parent.name}/{folder.name} " if (folder / "run.json").is_file() else ""
    return f"{run}{found[1]} epoch {found[3]}"


def find(path: str | Path) -> Path:
    """Return `path`, or the newest sound checkpoint if it is a folder, which is logged; see `newest`."""
    if not Path(path).is_dir():
        return Path(path)
    found = newest(Path(path))
    logger.info("%s: the newest checkpoint is %s", path, found.relative_to(path))
    return found


class _Found(NamedTuple):
    """A checkpoint in a folder; a greater one is newer. Of equal iterations, last_ is before best_."""

    iteration: int
    is_last: bool
    time: int
    path: Path


def newest(folder: Path) -> Path:
    """Return the newest sound checkpoint in a run's folder, or in a folder of several runs.

    The newest has the highest iteration, then the latest time. Published checkpoints have no iteration and
    are older than others. Weights of a teacher (ema_...), and what `set_aside` renamed, are not looked at. A
    warning names each file that is damaged or cannot be read. Raises UserError if nothing is left.
    """
    found, damaged = [], []
    for path in sorted(folder.rglob("*.pth")):
        if path.name.startswith(("ema_", ASIDE)) or not path.is_file():
            continue
        try:
            state = _with_weights(torch_files.skim(path, "checkpoint"), path)
            time = path.stat().st_mtime_ns
        except FileNotFoundError:  # another process has just replaced it by a newer one
            continue
        except (UserError, OSError) as error:
            logger.warning("%s; it is skipped", error)
            damaged.append(path)
            continue
        found.append(_Found(state.get("iteration", -1), path.name.startswith("last_"), time, path))
    for candidate in sorted(found, reverse=True):
        try:
            torch_files.check(candidate.path, "checkpoint")
            return candidate.path
        except (UserError, OSError) as error:
            logger.warning("%s; the one before it is used", error)
            damaged.append(candidate.path)
    if damaged:
        raise DamagedFile(f"no sound checkpoint in {folder}: {', '.join(map(str, damaged))} cannot be read")
    raise MissingFile(
        f"no checkpoint in {folder}; train.py writes those of a run to CKPT/DATE/EXP/MM_DD_HH/last_....pth, "
        "as --ckpt, --date and --exp say"
    )


def set_aside(folder: Path, iteration: int) -> list[Path]:
    """Rename the sound checkpoints in a run's folder that are of a later `iteration`; return their new names.

    A run that goes back to an earlier checkpoint leaves them behind: they must not count as its newest.
    """
    renamed = []
    for path in sorted(folder.glob("*.pth")):
        if path.name.startswith(ASIDE) or not path.is_file():
            continue
        try:
            later = torch_files.skim(path, "checkpoint").get("iteration", -1) > iteration
            if later:
                torch_files.check(path, "checkpoint")
        except (UserError, OSError, AttributeError, TypeError):  # it is never taken as the newest
            continue
        if later:
            new = path.with_name(ASIDE + path.name)
            while new.exists():
                new = new.with_name(ASIDE + new.name)
            renamed.append(path.rename(new))
    return renamed


class File(NamedTuple):
    """A checkpoint to write. `stem` begins the names of its kind, of which the newest `keep` stay."""

    path: Path
    state: dict[str, Any]
    stem: str
    keep: int = 1


def place_in_run(path: Path) -> tuple[int, bool, int]:
    """Return what orders the files of one kind and run: by epoch, then scored or not, and only then by time.

    The clock of a machine may be set back.
    """
    epoch = re.search(r"_epoch_(\d+)_", path.name)
    return int(epoch[1]) if epoch else -1, "_nan" not in path.name, path.stat().st_mtime_ns


def write_files(files: Iterable[File]) -> None:
    """Write checkpoints in their order; older ones of a kind are removed once the new one is on disk."""
    for file in files:
        save(file.path, file.state)
        found = file.path.parent.glob(f"{file.stem}*.pth")
        others = [path for path in found if path != file.path and path.is_file()]
        others.sort(key=place_in_run, reverse=True)
        for path in others[max(0, file.keep - 1) :]:
            path.unlink(missing_ok=True)


class BackgroundWriter:
    """Writes checkpoints on a thread, while training goes on.

    `submit` copies the tensors and returns. At most one group of files is being written: `submit` waits for
    the group before it. An error of writing is raised by the next `submit`, `wait`, `check` or `close`.
    Leaving the `with` block waits for the writing; an error is only logged if the block itself failed.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "checkpoint")
        self.pending: Future[None] | None = None

    def submit(self, files: Iterable[File]) -> None:
        """Write `files` as `write_files` does; their tensors may be changed afterwards.

        Raises UserError if weights are not finite, and the error of the group before.
        """
        files = list(files)
        for file in files:
            require_finite(file.state.get("state_dict", {}))
        self.wait()
        copies: dict[int, Tensor] = {}
        copied = [file._replace(state=_copied(file.state, copies)) for file in files]
        event = None
        if torch.cuda.is_available():
            event = torch.cuda.Event()
            event.record()
        self.pending = self.pool.submit(_write_when_copied, copied, event)

    def wait(self) -> None:
        """Wait until all that was submitted is written; raise the error of writing it."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def check(self) -> None:
        """Raise the error of writing what was submitted, if it has failed already; take no time."""
        if self.pending and self.pending.done():
            self.wait()

    def close(self) -> None:
        """Wait as `wait` does, and end the thread."""
        try:
            self.wait()
        finally:
            self.pool.shutdown()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if kind is None:
                raise
            logger.error("%s", failure)


def _write_when_copied(files: list[File], event: torch.cuda.Event | None) -> None:
    if event:
        event.synchronize()
    write_files(files)


def _copied(value: Any, copies: dict[int, Tensor]) -> Any:
    """Return `value` with its tensors copied to the CPU, each once; `copies` is by the tensor's id.

    Copies from a GPU are only begun, into pinned memory, which PyTorch keeps for the next time.
    """
    if isinstance(value, Tensor):
        if id(value) not in copies:
            copies[id(value)] = _copy(value.detach())
        return copies[id(value)]
    if isinstance(value, dict):
        return {key: _copied(item, copies) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, copies) for item in value)
    return value


def _copy(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
