"""What a dataset offers to those that draw samples from it, and the base of the datasets around a dataset."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from datasets.base import sample_rng
from datasets.listing import Sample
from utils.classes import ClassTable
from utils.versions import Version


class LabelledSource(Protocol):
    """A source of samples: a SegmentationDataset or a DatasetWrapper around one."""

    root: Path
    seed: int
    samples: list[Sample]
    versions: dict[Path, Version]  # of the files of all samples, as they were listed

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> ClassTable | None:
        """The classes of the labels; None where there are no labels."""

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return the item of any sample, not only of `samples`; all chance comes from `rng`."""

    def read_label(self, path: Path) -> np.ndarray:
        """Return the train ids of a label file, uint8 (H, W)."""

    def set_epoch(self, epoch: int) -> None:
        """Make the samples and items those of `epoch`."""

    def __len__(self) -> int: ...


class DatasetWrapper(Dataset):
    """A dataset around the source `base`, which is itself a LabelledSource.

    Subclasses change `samples`, `load` or `read_label`. An item depends only on (seed, epoch, index).
    """

    def __init__(self, base: LabelledSource):
        self.base, self.classes = base, base.classes
        self.name, self.root, self.seed, self.samples = base.name, base.root, base.seed, base.samples
        self.versions = base.versions
        self.epoch = 0

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return the item of `sample`."""
        return self.base.load(sample, rng)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the train ids of a label file, uint8 (H, W)."""
        return self.base.read_label(path)

    def set_epoch(self, epoch: int) -> None:
        """Make the items those of `epoch`."""
        self.epoch = epoch
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.load(self.samples[index], sample_rng(self.seed, self.epoch, index))
