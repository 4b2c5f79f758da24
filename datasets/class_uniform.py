"""Class-uniform sampling: a share of every epoch is crops around pixels of classes drawn evenly."""

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.base import Sample, sample_rng
from datasets.labels import NUM_CLASSES, TRAIN_ID_NAMES
from datasets.lazy import naming
from utils.distributed import from_first_rank
from utils.files import write_array

logger = logging.getLogger("robustnet")


def tile_centroids(
    label: np.ndarray, tile: int, num_classes: int = NUM_CLASSES, to_train_ids=np.asarray
) -> np.ndarray:
    """Return the mean pixel of each class in each tile, as rows (class, x, y), px rounded down.

    `label` (H, W) holds train ids or whatever `to_train_ids` turns into train ids. Tiles of `tile` x `tile`
    px start at the top left and cover the whole image, the last ones of a row or column may be smaller. Rows
    are ordered by tile, row by row, then by class.
    """
    height, width = label.shape
    label = label.ravel()
    starts = np.ones(label.size, bool)  # of runs: pixels of one class and tile side by side in a row
    np.not_equal(label[1:], label[:-1], out=starts[1:])
    starts.reshape(height, width)[:, ::tile] = True
    starts = np.flatnonzero(starts)
    length = np.diff(starts, append=label.size)
    y, x = np.divmod(starts, width)
    across, bins = -(-width // tile), num_classes + 1  # the last bin takes what is not scored
    train_ids = np.minimum(to_train_ids(label[starts]), num_classes)
    key = (y // tile * across + x // tile) * bins + train_ids
    count = np.bincount(key, length).astype(np.int64)  # whole numbers below 2^53: exact
    sum_x = np.bincount(key, length * (2 * x + length - 1) // 2).astype(np.int64)
    sum_y = np.bincount(key, length * y).astype(np.int64)
    found = np.flatnonzero(count)
    found = found[found % bins < num_classes]
    x, y = sum_x[found] // count[found], sum_y[found] // count[found]
    return np.stack([found % bins, x, y], 1).astype(np.int32)


class ClassUniform(Dataset):
    """The dataset `base` with a share `pct` of each epoch drawn evenly over the classes.

    That share consists of samples with a centroid, which the training crop must contain; the rest are plain
    random samples. The epoch keeps the length of `base` and depends on (seed, epoch) alone. From epoch
    `max_epoch` on the epoch is plain. Centroids are those of tiles of `tile` px; they are cached in
    `cache_dir` (default: .cache in the dataset's root). `boost` = (another ClassUniform of the same dataset,
    classes) adds its centroids of these classes. Raises ValueError for a share outside [0, 1] and a tile
    under 1 px.
    """

    def __init__(
        self, base, pct, tile, *, max_epoch=None, cache_dir=None, num_classes=NUM_CLASSES, boost=None
    ):
        if not 0 <= pct <= 1 or tile < 1:
            raise ValueError(f"class-uniform share {pct} must lie in [0, 1] and tile {tile} be at least 1 px")
        self.base, self.name, self.seed = base, base.name, base.seed
        self.pct, self.tile, self.max_epoch, self.num_classes = pct, tile, max_epoch, num_classes
        self.centroids = from_first_rank(lambda: self._cached(Path(cache_dir or base.root / ".cache")))
        self.pool = list(base.samples)  # what a centroid's first column counts
        if boost:
            other, classes = boost
            rows = other.centroids[np.isin(other.centroids[:, 1], classes)]
            self.centroids = np.concatenate([self.centroids, rows + [len(self.pool), 0, 0, 0]])
            self.pool += other.base.samples
        self.classes = np.unique(self.centroids[:, 1])
        if absent := sorted(set(range(num_classes)) - set(self.classes.tolist())):
            names = ", ".join(TRAIN_ID_NAMES[i] if num_classes == NUM_CLASSES else str(i) for i in absent)
            logger.info("class-uniform sampling of %s skips classes that never occur: %s", self.name, names)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.base.set_epoch(epoch)
        plain = self.max_epoch is not None and epoch >= self.max_epoch
        self.samples = self.base.samples if plain else self.build_epoch(epoch)

    def build_epoch(self, epoch: int) -> list[Sample]:
        """Return the samples of `epoch`: plain ones, then those of each class."""
        rng = sample_rng(self.seed, epoch)
        uniform = int(self.pct * len(self.base.samples)) if len(self.classes) else 0
        order = rng.permutation(len(self.base.samples))[: len(self.base.samples) - uniform]
        samples = [self.base.samples[i] for i in order]
        shares = np.bincount(np.arange(uniform) % max(1, len(self.classes)), minlength=len(self.classes))
        for train_id, share in zip(rng.permutation(self.classes), shares, strict=True):
            rows = rng.permutation(self.centroids[self.centroids[:, 1] == train_id])
            for index, _, x, y in np.resize(rows, (share, 4)).tolist():  # starts over where there are too few
                samples.append(self.pool[index]._replace(centroid=(x, y)))
        return samples

    def _cached(self, folder: Path) -> np.ndarray:
        """Return rows (sample, class, x, y) for all of `base`, from `folder` if they are there and hold."""
        files = [sample.label for sample in self.base.samples if sample.label is not None]
        stats = [path.stat() for path in files]
        content = [
            [os.path.relpath(path, self.base.root), stat.st_size, stat.st_mtime_ns]
            for path, stat in zip(files, stats, strict=True)
        ]
        key = hashlib.sha256(json.dumps([self.tile, self.num_classes, content]).encode()).hexdigest()
        path = folder / f"centroids_{self.name}_{key[:32]}.npy"
        if path.is_file():
            try:
                return np.load(path)
            except (ValueError, EOFError, OSError) as error:
                logger.warning("class centroids are gathered anew, %s cannot be read: %s", path, error)
        centroids = self._compute()
        try:
            write_array(path, centroids)
        except OSError as error:
            logger.warning("class centroids are not cached, %s cannot be written: %s", path, error)
        return centroids

    def _compute(self) -> np.ndarray:
        def rows(path: Path) -> np.ndarray:
            label, to_train_ids = self.base.read_ids(path)
            with naming(f"label {path}"):
                return tile_centroids(label, self.tile, self.num_classes, to_train_ids)

        labels = [sample.label for sample in self.base.samples]
        files = list(dict.fromkeys(path for path in labels if path))  # video frames share a label
        with ThreadPoolExecutor() as pool:
            bar = tqdm(pool.map(rows, files), f"class centroids of {self.name}", len(files), unit="image")
            found = dict(zip(files, bar, strict=True))
        parts = [np.insert(found[path], 0, i, axis=1) for i, path in enumerate(labels) if path]
        return np.concatenate([np.zeros((0, 4), np.int32), *parts])

    def load(self, sample: Sample, rng: np.random.Generator) -> dict:
        return self.base.load(sample, rng)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.load(self.samples[index], sample_rng(self.seed, self.epoch, index))
