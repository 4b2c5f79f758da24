"""Decoded images and labels on disk, for where decoding is what training waits for."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from datasets.base import Sample, SegmentationDataset, sample_rng
from utils.distributed import from_first_rank
from utils.files import write_array


class MappedImage:
    """A memory-mapped uint8 array, (H, W, *channels), in place of a PIL image that is cropped.

    ValueError naming a damaged file.
    """

    def __init__(self, path: Path, channels: tuple[int, ...]):
        try:
            self.values = np.load(path, mmap_mode="r")
        except (ValueError, EOFError):
            self.values = np.empty(0)
        if self.values.dtype != np.uint8 or self.values.shape[2:] != channels or self.values.ndim < 2:
            raise ValueError(f"cached file {path} is damaged: delete it and start again, it is made anew")
        self.height, self.width = self.values.shape[:2]

    def crop(self, box: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = box
        return self.values[top:bottom, left:right]


class CachedImages(Dataset):
    """The dataset `base`, whose transform starts with a crop, decoded once into `folder`.

    A cached file's name holds a hash of its source's place, size and time of change, so a changed source is
    decoded anew. Files are renamed into place when complete: any number of processes and jobs may share the
    folder. An image of 2048x1024 px takes 8 MB with its label.

    ValueError for a folder that cannot be filled.
    """

    def __init__(self, base: SegmentationDataset, folder):
        self.base, self.folder = base, Path(folder)
        self.name, self.seed, self.root, self.samples = base.name, base.seed, base.root, base.samples
        self.place = self.root.resolve()
        from_first_rank(self._build)
        self.files = {sample.image: self._files(sample) for sample in self.samples}
        self.labels = {sample.label: self.files[sample.image][1] for sample in self.samples}

    def _files(self, sample: Sample) -> list[Path | None]:
        """Return where the decoded image and label are, None for no label."""
        files = []
        for source in (sample.image, sample.label):
            if source is not None:
                place = hashlib.sha256(os.path.join(self.place, os.path.relpath(source, self.root)).encode())
                stat = source.stat()
                version = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
                source = self.folder / self.name / f"{place.hexdigest()[:16]}_{version}.npy"
            files.append(source)
        return files

    def _build(self) -> None:
        missing = [s for s in self.samples if not all(f is None or f.exists() for f in self._files(s))]
        if not missing:
            return
        try:
            with ThreadPoolExecutor() as pool:
                done = pool.map(self._decode, missing)
                list(tqdm(done, f"decoding {self.name}", len(missing), unit="image"))
        except OSError as error:
            raise ValueError(f"--cache_images {self.folder} cannot be filled: {error}") from error

    def _decode(self, sample: Sample) -> None:
        for file, values in zip(self._files(sample), self.base.open(sample), strict=True):
            if file is not None:
                for other in file.parent.glob(f"{file.stem.split('_')[0]}_*.npy"):
                    if other != file:  # of an earlier version of the source
                        other.unlink(missing_ok=True)
                write_array(file, np.asarray(values))

    def read_ids(self, path: Path) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return what `base.read_ids` does, but train ids; a label that is not of `samples` is decoded."""
        if path not in self.labels:
            return self.base.read_ids(path)
        return MappedImage(self.labels[path], ()).values, np.asarray

    def load(self, sample: Sample, rng: np.random.Generator) -> dict:
        """Return what `base.load` does; a sample that is not one of `samples` is decoded."""
        if sample.image not in self.files:
            return self.base.load(sample, rng)
        files = zip(self.files[sample.image], ((3,), ()), strict=True)
        image, label = (file and MappedImage(file, channels) for file, channels in files)
        return self.base.augment(sample, image, label, rng)

    def set_epoch(self, epoch: int) -> None:
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.load(self.samples[index], sample_rng(self.seed, self.base.epoch, index))
