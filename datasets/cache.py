"""Decoded images and labels on disk, for training that waits for decoding."""

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from datasets.base import SegmentationDataset
from datasets.listing import Sample
from datasets.wrapper import DatasetWrapper
from utils import bars
from utils.distributed import from_first_rank
from utils.errors import DamagedFile, DiskFull, UserError
from utils.files import remove_stale, replacing

logger = logging.getLogger("robustnet.process")
Used = TypeVar("Used")
ABANDONED = 3600  # seconds after which an unfinished file is of no running job

DECODING = 3  # raise it when the same file is read as other values, or written in another form
BLOCK = 2**16  # bytes that share a checksum


def checksums(content: np.ndarray) -> np.ndarray:
    """Return one number per BLOCK of bytes (n,), the last one maybe shorter: 1 + the sum of its 64-bit words.

    The sum is that of unsigned integers, which overflow. A block of zeros in place of others is noticed, also
    together with its checksum.
    """
    whole = len(content) // BLOCK * BLOCK
    sums = content[:whole].view(np.uint64).reshape(-1, BLOCK // 8).sum(1)
    rest = np.zeros(BLOCK, np.uint8)
    rest[: len(content) - whole] = content[whole:]
    return np.append(sums, rest.view(np.uint64).sum(keepdims=True)) + np.uint64(1)


class MappedImage:
    """A memory-mapped uint8 array, (H, W, *channels), that stands in for a PIL image which is cropped.

    Checksums follow it in the file; those of the rows that are used are checked. Raises DamagedFile naming a
    file that is missing, too short, of another form, or damaged in these rows.
    """

    def __init__(self, path: Path, channels: tuple[int, ...]):
        self.path = path
        try:
            values = np.load(path, mmap_mode="r")
            self.content = values.reshape(-1)
            with path.open("rb") as file:
                file.seek(values.offset + values.nbytes)
                self.sums = np.lib.format.read_array(file, allow_pickle=False)
        except Exception:  # NumPy raises many kinds
            values = self.sums = np.empty(0)
        form = values.dtype == np.uint8 and values.ndim >= 2 and values.shape[2:] == channels
        if not form or self.sums.shape != (values.nbytes // BLOCK + 1,):
            raise DamagedFile(f"cached file {path} is damaged")
        self.values = values
        self.height, self.width = values.shape[:2]

    def crop(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """Return the part (left, top, right, bottom), end exclusive, which lies inside."""
        left, top, right, bottom = box
        return self.rows(top, bottom)[:, left:right]

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Return rows top..bottom-1, after a look at their checksums."""
        row = self.values.nbytes // max(1, self.height)
        first, last = top * row // BLOCK, (bottom * row + BLOCK - 1) // BLOCK
        found = checksums(self.content[first * BLOCK : last * BLOCK])
        if (found[: last - first] != self.sums[first:last]).any():
            raise DamagedFile(f"cached file {self.path} is damaged")
        return self.values[top:bottom]


def write_mapped(path: Path, values: np.ndarray) -> None:
    """Write what MappedImage reads."""
    with replacing(path, flushed=False) as temporary, temporary.open("wb") as file:
        values = np.ascontiguousarray(values)
        np.lib.format.write_array(file, values, allow_pickle=False)
        np.lib.format.write_array(file, checksums(values.reshape(-1)), allow_pickle=False)


def mapped(path: Path | None, channels: tuple[int, ...]) -> MappedImage | None:
    """Return the array at `path`, None for no path."""
    return None if path is None else MappedImage(path, channels)


class CachedImages(DatasetWrapper):
    """The dataset `base` with images and labels decoded once into `folder`. Its transform starts with a crop.

    The name of a cached file holds a hash of the path, size and time of change of its source, so a changed
    source is decoded again. A source that changes after it was listed is not read: its decoded image stays.
    Files are renamed into place when they are complete, so any number of processes and jobs may share the
    folder, and building one goes on where it was stopped. A damaged file is remade, with a warning, when
    damaged pixels are read. An image of 2048x1024 px takes 8 MB with its label.

    Raises UserError for a folder that cannot be filled.
    """

    base: SegmentationDataset

    def __init__(self, base: SegmentationDataset, folder: str | Path):
        super().__init__(base)
        self.folder, self.resolved_root = Path(folder), self.root.resolve()
        from_first_rank(self._build)
        self.files = {sample.image: self._files(sample) for sample in self.samples}
        self.labels = {sample.label: sample for sample in self.samples if sample.label}

    def _files(self, sample: Sample) -> list[Path | None]:
        """Return the paths of the decoded image and label, None for no label."""
        return [source and self._file(source) for source in (sample.image, sample.label)]

    def _file(self, source: Path) -> Path:
        path = os.path.join(self.resolved_root, os.path.relpath(source, self.root))
        size, time = self.versions[source]
        version = f"{size} {time} {DECODING}"
        name = "_".join(hashlib.sha256(os.fsencode(text)).hexdigest()[:16] for text in (path, version))
        return self.folder / self.name / f"{name}.npy"

    def _build(self) -> None:
        missing = [s for s in self.samples if not all(f is None or f.exists() for f in self._files(s))]
        if not missing:
            return
        remove_stale(self.folder / self.name, ABANDONED)
        self._decode_all(missing, self._decode_readable)

    def _decode_readable(self, sample: Sample) -> None:
        """Decode a sample; one that cannot be read is left out, so `load` tries again and says why."""
        try:
            self._decode(sample)
        except UserError as error:
            if isinstance(error, DiskFull):
                raise

    def _decode_all(self, samples: list[Sample], decode: Callable[[Sample], None] | None = None) -> None:
        """Decode images and labels into the folder; UserError if that is not possible."""
        try:
            with ThreadPoolExecutor() as pool:
                done = pool.map(decode or self._decode, samples)
                list(done if len(samples) == 1 else bars.over(done, f"decoding {self.name}", len(samples)))
        except OSError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"--cache_images {self.folder} cannot be filled: {error}") from error

    def _decode(self, sample: Sample) -> None:
        for file, values in zip(self._files(sample), self.base.open(sample), strict=True):
            if file is not None:
                for other in file.parent.glob(f"{file.stem.split('_')[0]}_*.npy"):
                    if other != file:  # of an earlier version of the source
                        other.unlink(missing_ok=True)
                write_mapped(file, np.asarray(values))

    def _used(self, sample: Sample, use: Callable[[Any, Any], Used]) -> Used:
        """Return what `use` makes of the decoded image and label of a sample; a damaged file is remade."""
        image, label = self.files[sample.image]
        try:
            return use(mapped(image, (3,)), mapped(label, ()))
        except DamagedFile as error:
            logger.warning("%s; it is decoded again", error)
            self._decode_all([sample])
            return use(mapped(image, (3,)), mapped(label, ()))

    def read_label(self, path: Path) -> np.ndarray:
        """Return the train ids of a label, (H, W). Labels that are not of `samples` are decoded."""
        if path not in self.labels:
            return self.base.read_label(path)
        return self._used(self.labels[path], lambda _, label: label.rows(0, label.height))

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return the item of `sample`. Samples that are not of `samples` are decoded."""
        if sample.image not in self.files:
            return self.base.load(sample, rng)
        start = rng.bit_generator.state

        def augmented(image: MappedImage | None, label: MappedImage | None) -> dict[str, Any]:
            rng.bit_generator.state = start
            return self.base.augment(sample, image, label, rng)

        return self._used(sample, augmented)
