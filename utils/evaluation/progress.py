"""What is finished of an evaluation, image by image, so that it can be resumed and its slices merged."""

import json
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from utils import distributed
from utils.errors import UserError
from utils.evaluation import records
from utils.evaluation.counts import Counts
from utils.evaluation.records import Finished
from utils.files import naming_full_disk, write_text
from utils.images import is_whole_picture
from utils.logging import logger

FINISHED = "finished.jsonl"
Files = Callable[[str, Counts], Mapping[str, Path]]  # (image, counts) -> the files that were written for it


class Progress:
    """The counts of each finished image of a dataset, or of a slice of it.

    `folder` holds the settings that all images share, the names of all images, files with one line per
    finished image, one file per process, and small pictures. All processes open it together. Names are those
    of `utils.files.safe_name`.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        data: Mapping[str, str] | None = None,
        *,
        files: Files | None = None,
        resume: bool = False,
    ) -> None:
        """Start anew, or keep the images that were finished under the same settings.

        `data` has the fingerprint of each image that is to be evaluated; without it any image counts. An
        image counts as finished if its data are the same and its `files` are whole. Raises UserError, on
        every process, for other settings.
        """
        self.folder, self.lock, self.data = folder, threading.Lock(), data
        self.settings = records.digest(settings)
        self.counts: dict[str, Counts] = {}  # of the images that this process finishes
        self.of_earlier_version = False  # whether what is finished was recorded by one
        self.finished: dict[str, Counts] = distributed.from_first_rank(
            lambda: self._prepare(settings, resume, files)
        )
        folder.mkdir(parents=True, exist_ok=True)  # processes may have separate disks
        self.file = folder / f"process_{distributed.rank()}.jsonl"

    def _prepare(self, settings: Mapping[str, Any], resume: bool, files: Files | None) -> dict[str, Counts]:
        """Write settings, names and one file of what is finished, which is returned."""
        kept = self._kept(settings, files) if resume else {}
        for file in self.folder.glob("*.jsonl"):
            file.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        records.write_settings(self.folder, settings)
        names = self.data if self.data is not None else kept
        records.write_names(self.folder, sorted(set(names) | set(kept)))
        lines = [records.line_of(name, finished, self.settings) for name, finished in kept.items()]
        write_text(self.folder / FINISHED, "".join(lines))
        return {name: finished.counts for name, finished in kept.items()}

    def _kept(self, settings: Mapping[str, Any], files: Files | None) -> dict[str, Finished]:
        """Return the finished images that still count; the log says why others do not."""
        earlier, lines_format = records.read_settings(self.folder)
        if not earlier:
            damaged = " that is not damaged" if earlier is None else ""
            logger.info("nothing to resume in %s%s", self.folder, damaged)
            return {}
        if different := differences(earlier, settings):
            raise UserError(
                f"the evaluation in {self.folder} had {different}; leave out --resume to start anew"
            )
        finished, damaged_lines = records.finished_images(self.folder, lines_format)
        self.of_earlier_version = lines_format == 1
        if self.of_earlier_version:
            self._warn(
                "%d finished images were recorded by an earlier version, without the data's "
                "fingerprints: whether the data are the same is not known",
                len(finished),
            )
            finished = {
                name: image._replace(data=self.data.get(name, "") if self.data is not None else "")
                for name, image in finished.items()
            }
        self._warn("%d damaged lines: their images are evaluated again", damaged_lines)
        if self.data is not None:
            there = {name: image for name, image in finished.items() if name in self.data}
            self._warn("%d finished images are not in the data any more", len(finished) - len(there))
            same = {name: image for name, image in there.items() if image.data == self.data[name]}
            self._warn(
                "%d finished images have other data now: they are evaluated again", len(there) - len(same)
            )
            finished = same
        kept = {
            name: image
            for name, image in finished.items()
            if not files or all(map(is_whole_picture, files(name, image.counts).values()))
        }
        self._warn("%d finished images lack pictures: they are evaluated again", len(finished) - len(kept))
        return kept

    def _warn(self, text: str, count: int) -> None:
        if count:
            logger.warning(f"%s: {text}", self.folder, count)

    def add(self, name: str, counts: Counts, picture: Image.Image) -> None:
        """Record an image as finished. Any thread may call this, after it has written the image's files."""
        path = picture_path(self.folder, name)
        with naming_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=88, subsampling=0)
        data = self.data[name] if self.data is not None else ""
        with self.lock, naming_full_disk(self.file):
            self.counts[name] = counts
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(records.line_of(name, Finished(counts, data), self.settings))

    def gather(self) -> dict[str, Counts]:
        """Return the counts of every image, sorted by name. All processes call this together, at the end."""
        every = dict(self.finished)
        for counts in distributed.all_gather_objects(self.counts):
            every |= counts
        return dict(sorted(every.items()))


def differences(earlier: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Name the settings that are not as earlier, with both values; empty if there are none."""
    settings = json.loads(json.dumps(settings))
    keys = [key for key in {**earlier, **settings} if earlier.get(key) != settings.get(key)]
    return "; ".join(f"{key} {str(earlier.get(key)):.60}, not {str(settings.get(key)):.60}" for key in keys)


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


def merged(folders: Sequence[Path], left_out: Collection[str] = ()) -> dict[str, Counts]:
    """Return the counts of all images of the slices in `folders`.

    Raises UserError if their settings differ, or if an image that is not `left_out` has no line.
    """
    first: dict[str, Any] = {}
    images: dict[str, Counts] = {}
    for folder in folders:
        settings, lines_format = records.read_settings(folder)
        if not settings:
            raise UserError(f"{folder} holds no readable settings; evaluate this slice again")
        first = first or settings
        if different := differences(settings, first):
            raise UserError(f"{folder} has other settings than {folders[0]}: {different}")
        finished, _ = records.finished_images(folder, lines_format)
        if missing := records.read_names(folder) - set(finished) - set(left_out):
            raise UserError(
                f"{len(missing)} images of {folder} have no sound record: evaluate this slice with --resume"
            )
        images |= {name: image.counts for name, image in finished.items()}
    return dict(sorted(images.items()))


def picture_path(folder: Path, name: str) -> Path:
    """Return the file of an image's small picture. Names may contain slashes (dataset `folder`)."""
    return folder / "pictures" / f"{name}.jpg"
