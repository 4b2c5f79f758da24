"""What is finished of an evaluation, image by image, so that it can be resumed and its slices merged."""

import contextlib
import json
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from utils import distributed
from utils.errors import UserError
from utils.files import write_text
from utils.logging import logger

SETTINGS, FINISHED = "settings.json", "finished.jsonl"


class Progress:
    """Pixel counts (K, K) by (truth, prediction) of each finished image of a dataset, or of a slice of it.

    `folder` holds the settings that all images share, files with one line per image, one file per process,
    and small pictures. All processes open it together.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool = False) -> None:
        """Start anew, or keep the images that were finished under the same settings.

        Raises UserError, on every process, if their settings were others.
        """
        self.folder, self.lock = folder, threading.Lock()
        self.counts: dict[str, Tensor] = {}  # of the images that this process finishes
        error = distributed.broadcast_object(self._prepare(settings, resume) if distributed.is_main() else "")
        if error:
            raise UserError(error)
        finished = read(folder) if distributed.is_main() else {}
        self.finished: dict[str, Tensor] = distributed.broadcast_object(finished)
        folder.mkdir(parents=True, exist_ok=True)  # processes may have separate disks
        self.file = folder / f"process_{distributed.rank()}.jsonl"

    def _prepare(self, settings: Mapping[str, Any], resume: bool) -> str:
        """Write the settings and one file of what is finished; return why the settings do not fit, or ""."""
        settings = json.loads(json.dumps(settings))
        if not resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not (self.folder / SETTINGS).is_file():
            logger.info("nothing to resume in %s", self.folder)
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
        """Record an image as finished. Any thread may call this, after it has written the image's files."""
        path = picture_path(self.folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=88, subsampling=0)
        with self.lock:
            self.counts[name] = counts
            with open(self.file, "a") as file:
                file.write(line_of(name, counts))

    def gather(self) -> dict[str, Tensor]:
        """Return the counts of every image, sorted by name. All processes call this together, at the end."""
        every = dict(self.finished)
        for counts in distributed.all_gather_objects(self.counts):
            every |= counts
        return dict(sorted(every.items()))


class Background:
    """Runs tasks on a few threads; the caller waits only while `limit` tasks are unfinished.

    The first error of a task is raised by a later `submit` or at the end of the `with` block.
    """

    def __init__(self, threads: int = 4, limit: int = 8) -> None:
        self.pool, self.limit = ThreadPoolExecutor(threads), limit
        self.pending: deque[Future] = deque()

    def submit(self, task: Callable, *args: Any) -> None:
        """Run `task(*args)` on a thread, once fewer than `limit` tasks are unfinished."""
        while len(self.pending) >= self.limit:
            self.pending.popleft().result()
        self.pending.append(self.pool.submit(task, *args))

    def __enter__(self) -> "Background":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for task in self.pending:
                task.result()


def line_of(name: str, counts: Tensor) -> str:
    """Write an image's counts as a line of JSON that lists the cells that are not 0."""
    flat = counts.flatten()
    cells = flat.nonzero().flatten()
    line = {"name": name, "classes": len(counts), "cells": cells.tolist(), "counts": flat[cells].tolist()}
    return json.dumps(line) + "\n"


def read(folder: Path) -> dict[str, Tensor]:
    """Return the counts of the images finished in `folder`. A line cut off by a crash is skipped."""
    images = {}
    files = sorted(folder.glob("*.jsonl"))
    for line in (line for file in files for line in file.read_text().splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            image = json.loads(line)
            flat = torch.zeros(image["classes"] ** 2, dtype=torch.int64)
            flat[image["cells"]] = torch.tensor(image["counts"], dtype=torch.int64)
            images[image["name"]] = flat.view(image["classes"], -1)
    return images


def merged(folders: Sequence[Path]) -> dict[str, Tensor]:
    """Return the counts of all images of the slices in `folders`; UserError if their settings differ."""
    settings = [(folder / SETTINGS).read_text() for folder in folders]
    for folder, text in zip(folders, settings, strict=True):
        if text != settings[0]:
            raise UserError(f"{folder} has other settings than {folders[0]}: {text}, not {settings[0]}")
    return dict(sorted(item for folder in folders for item in read(folder).items()))


def picture_path(folder: Path, name: str) -> Path:
    """Return the file of an image's small picture. Names may contain slashes (dataset `folder`)."""
    return folder / "pictures" / f"{name}.jpg"
