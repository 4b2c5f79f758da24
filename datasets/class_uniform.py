"""Class-uniform sampling: part of every epoch is crops around pixels of classes that are drawn evenly."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datasets.base import sample_rng
from datasets.cache import DECODING
from datasets.listing import Sample
from datasets.wrapper import DatasetWrapper, LabelledSource
from utils import bars
from utils.classes import CITYSCAPES
from utils.distributed import from_first_rank
from utils.errors import DamagedFile, UserError, few
from utils.files import read_array, remove_stale, write_array
from utils.versions import MISSING

logger = logging.getLogger("robustnet")


def tile_centroids(label: np.ndarray, tile: int, num_classes: int = len(CITYSCAPES)) -> np.ndarray:
    """Return the mean pixel of each class in each tile, as rows (class, x, y), px rounded down.

    `label` (H, W) holds train ids. Tiles of `tile` x `tile` px start at the top left and cover the whole
    image, so the last ones of a row or column may be smaller. Rows are ordered by tile, row by row, then by
    class.
    """
    height, width = label.shape
    label = label.ravel()
    starts = np.ones(label.size, bool)  # of runs: pixels of one class and tile side by side in a row
    np.not_equal(label[1:], label[:-1], out=starts[1:])
    starts.reshape(height, width)[:, ::tile] = True
    starts = np.flatnonzero(starts)
    length = np.diff(starts, append=label.size)
    y, x = np.divmod(starts, width)
    across, bins = -(-width // tile), num_classes + 1  # the last bin is for what is not scored
    train_ids = np.minimum(label[starts], num_classes)
    key = (y // tile * across + x // tile) * bins + train_ids
    count = np.bincount(key, length).astype(np.int64)  # whole numbers below 2^53: exact
    sum_x = np.bincount(key, length * (2 * x + length - 1) // 2).astype(np.int64)
    sum_y = np.bincount(key, length * y).astype(np.int64)
    found = np.flatnonzero(count)
    found = found[found % bins < num_classes]
    x, y = sum_x[found] // count[found], sum_y[found] // count[found]
    return np.stack([found % bins, x, y], 1).astype(np.int32)


class ClassUniform(DatasetWrapper):
    """The dataset `base` with a part `pct` of each epoch drawn evenly over the classes.

    The samples of that part have a centroid, which the training crop contains. The others are plain
    random samples. An epoch has the length of `base` and depends only on (seed, epoch). From epoch
    `max_epoch` on, all samples are plain.

    Centroids are those of tiles of `tile` px. They are cached in `cache_dir`, by default .cache in the
    dataset's root. `boost` = (another ClassUniform of the same classes, train ids) adds the centroids that it
    has of these classes. A label that cannot be read has no centroids, or is an error if `strict`. Raises
    UserError for a part outside [0, 1] and a tile under 1 px.
    """

    def __init__(
        self,
        base: LabelledSource,
        pct: float,
        tile: int,
        *,
        max_epoch: int | None = None,
        cache_dir: str | Path | None = None,
        boost: "tuple[ClassUniform, Sequence[int]] | None" = None,
        strict: bool = True,
    ):
        if not 0 <= pct <= 1 or tile < 1:
            raise UserError(f"class-uniform share {pct} must lie in [0, 1] and tile {tile} be at least 1 px")
        super().__init__(base)
        names = (self.classes or CITYSCAPES).names
        self.pct, self.tile, self.max_epoch, self.num_classes = pct, tile, max_epoch, len(names)
        self.strict = strict
        self.unreadable: list[str] = []  # labels, with the reason
        self.centroids = from_first_rank(lambda: self._cached(Path(cache_dir or base.root / ".cache")))
        self.pool = list(base.samples)  # a centroid's first column is an index of it
        if boost:
            other, classes = boost
            rows = other.centroids[np.isin(other.centroids[:, 1], classes)]
            self.centroids = np.concatenate([self.centroids, rows + [len(self.pool), 0, 0, 0]])
            self.pool += other.base.samples
            self.versions.update(other.versions)  # `load` reads both
        self.present = np.unique(self.centroids[:, 1])
        if absent := sorted(set(range(self.num_classes)) - set(self.present.tolist())):
            text = ", ".join(names[train_id] for train_id in absent)
            logger.info("class-uniform sampling of %s skips classes that never occur: %s", self.name, text)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        plain = self.max_epoch is not None and epoch >= self.max_epoch
        self.samples = self.base.samples if plain else self.build_epoch(epoch)

    def build_epoch(self, epoch: int) -> list[Sample]:
        """Return the samples of `epoch`: plain ones, then those of each class."""
        rng = sample_rng(self.seed, epoch)
        uniform = int(self.pct * len(self.base.samples)) if len(self.present) else 0
        order = rng.permutation(len(self.base.samples))[: len(self.base.samples) - uniform]
        samples = [self.base.samples[i] for i in order]
        counts = np.bincount(np.arange(uniform) % max(1, len(self.present)), minlength=len(self.present))
        for train_id, count in zip(rng.permutation(self.present), counts, strict=True):
            rows = rng.permutation(self.centroids[self.centroids[:, 1] == train_id])
            for index, _, x, y in np.resize(rows, (count, 4)).tolist():  # repeated where there are too few
                samples.append(self.pool[index]._replace(centroid=(x, y)))
        return samples

    def _cached(self, folder: Path) -> np.ndarray:
        """Return rows (sample, class, x, y) for all of `base`, cached in `folder`."""
        files = [sample.label for sample in self.base.samples if sample.label is not None]
        content: list[list[str | int]] = []
        for path in files:
            content.append([os.path.relpath(path, self.base.root)])
            if (version := self.versions[path]).size != MISSING:  # `_compute` names it
                content[-1] += version
        of = json.dumps([DECODING, self.tile, self.num_classes, content])
        key = hashlib.sha256(of.encode()).hexdigest()
        path = folder / f"centroids_{self.name}_{key[:32]}.npy"
        if path.is_file():
            try:
                return read_array(path)
            except (DamagedFile, OSError) as error:
                logger.warning("class centroids are computed again, %s cannot be read: %s", path, error)
        centroids = self._compute()
        if self.unreadable:  # the next run may find them mended, so nothing is cached
            count, reasons = len(self.unreadable), few(self.unreadable, 5)
            if not len(centroids):
                raise UserError(f"no label of {self.name} gives class centroids: {reasons}")
            logger.warning("class centroids of %s leave out %d labels: %s", self.name, count, reasons)
            return centroids
        try:
            remove_stale(folder, seconds=3600)
            write_array(path, centroids)
        except OSError as error:
            logger.warning("class centroids are not cached, %s cannot be written: %s", path, error)
        return centroids

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Leave out a label that cannot be read, unless `strict`."""
        try:
            yield
        except UserError as error:
            if self.strict:
                raise
            self.unreadable.append(str(error))

    def _compute(self) -> np.ndarray:
        def rows(path: Path) -> np.ndarray:
            with self._tolerant():
                return tile_centroids(self.base.read_label(path), self.tile, self.num_classes)
            return np.zeros((0, 3), np.int32)

        labels = [sample.label for sample in self.base.samples]
        files = list(dict.fromkeys(path for path in labels if path))  # video frames share a label
        with ThreadPoolExecutor() as pool:
            done = bars.over(pool.map(rows, files), f"class centroids of {self.name}", len(files))
            found = dict(zip(files, done, strict=True))
        parts = [np.insert(found[path], 0, i, axis=1) for i, path in enumerate(labels) if path]
        return np.concatenate([np.zeros((0, 4), np.int32), *parts])
