"""What is finished of an evaluation, image by image, so that it can go on and its slices can be merged."""

import contextlib
import json
import shutil
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from utils import distributed
from utils.files import write_text
from utils.logging import logger

SETTINGS, FINISHED = "settings.json", "finished.jsonl"


class Records:
    """Pixel counts (K, K) by (truth, prediction) of each image of one dataset, or of a slice of it.

    `folder` holds the settings that all of them share, a file of one line per image that each process
    appends to, and small pictures. Open it on all processes together.
    """

    def __init__(self, folder: Path, settings: dict, *, resume: bool = False):
        """Start anew, or go on with what has been finished under the same settings.

        Raises ValueError, on every process, if these are others.
        """
        self.folder, self.counts, self.lock = folder, {}, threading.Lock()
        error = distributed.broadcast_object(self._prepare(settings, resume) if distributed.is_main() else "")
        if error:
            raise ValueError(error)
        self.finished: dict[str, Tensor] = distributed.broadcast_object(
            read(folder) if distributed.is_main() else {}
        )
        folder.mkdir(parents=True, exist_ok=True)  # where processes share no disk
        self.file = folder / f"process_{distributed.rank()}.jsonl"

    def _prepare(self, settings: dict, resume: bool) -> str:
        """Leave a folder with settings and one file of what is finished; return why that cannot be."""
        settings = json.loads(json.dumps(settings))
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not (self.folder / SETTINGS).is_file():
            logger.info("nothing to continue in %s", self.folder)
        else:
            earlier = json.loads((self.folder / SETTINGS).read_text())
            keys = [key for key in {**earlier, **settings} if earlier.get(key) != settings.get(key)]
            if keys:
                texts = [f"{key} {earlier.get(key)}, not {settings.get(key)}" for key in keys]
                had = f"the evaluation in {self.folder} had {'; '.join(texts)}"
                return f"{had}; leave out --resume to start anew"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / SETTINGS, json.dumps(settings))
        lines = [line_of(name, counts) for name, counts in read(self.folder).items()]
        write_text(self.folder / FINISHED, "".join(lines))
        for file in self.folder.glob("process_*.jsonl"):
            file.unlink()
        return ""

    def add(self, name: str, counts: Tensor, picture: Image.Image) -> None:
        """Record an image as finished, from any thread, after all else about it is written."""
        path = picture_path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=88, subsampling=0)
        with self.lock:
            self.counts[name] = counts
            with open(self.file, "a") as file:
                file.write(line_of(name, counts))

    def gather(self) -> dict[str, Tensor]:
        """Return every image's counts, by name in order; all processes call it together, at the end."""
        shares = distributed.all_gather_objects(self.counts)
        every = dict(self.finished)
        for share in shares:
            every |= share
        return dict(sorted(every.items()))


class Background:
    """Runs tasks on a few threads while the caller goes on, which waits when `limit` are unfinished.

    The first error of a task is raised by a later `submit` or at the end of the `with` block.
    """

    def __init__(self, threads: int = 4, limit: int = 8):
        self.pool, self.limit = ThreadPoolExecutor(threads), limit
        self.pending: deque[Future] = deque()

    def submit(self, task, *args) -> None:
        while len(self.pending) >= self.limit:
            self.pending.popleft().result()
        self.pending.append(self.pool.submit(task, *args))

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for task in self.pending:
                task.result()


def line_of(name: str, counts: Tensor) -> str:
    """Write an image's counts as a line: the cells that are not 0."""
    flat = counts.flatten()
    cells = flat.nonzero().flatten()
    record = {"name": name, "classes": len(counts), "cells": cells.tolist(), "counts": flat[cells].tolist()}
    return json.dumps(record) + "\n"


def read(folder: Path) -> dict[str, Tensor]:
    """Return the counts of the images finished in `folder`; a line cut off by a crash does not count."""
    images = {}
    files = sorted(folder.glob("*.jsonl"))
    for line in (line for file in files for line in file.read_text().splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            flat = torch.zeros(record["classes"] ** 2, dtype=torch.int64)
            flat[record["cells"]] = torch.tensor(record["counts"], dtype=torch.int64)
            images[record["name"]] = flat.view(record["classes"], -1)
    return images


def merged(folders: list[Path]) -> dict[str, Tensor]:
    """Return the counts of all images of the slices in `folders`; ValueError if their settings differ."""
    settings = [(folder / SETTINGS).read_text() for folder in folders]
    for folder, text in zip(folders, settings, strict=True):
        if text != settings[0]:
            raise ValueError(f"{folder} has other settings than {folders[0]}: {text}, not {settings[0]}")
    return dict(sorted(item for folder in folders for item in read(folder).items()))


def picture_path(folder: Path, name: str) -> Path:
    """Return where the small picture of an image is; the name of one of a `folder` has slashes."""
    return folder / "pictures" / f"{name}.jpg"


def check_writable(folder: Path) -> None:
    """Make `folder` and raise OSError, naming it, if nothing can be written there."""
    probe = folder / f".writable_{distributed.rank()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"results cannot be written to {folder}: {error.strerror}") from error
