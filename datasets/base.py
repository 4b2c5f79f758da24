"""Reading the files of a dataset: the only code that opens images and labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from datasets.labels import INVALID, train_id_table
from datasets.lazy import LazyImage, read_content, user_errors_name
from datasets.listing import Layout, ListedDataset, Sample
from datasets.splits import as_ranges
from utils.classes import CITYSCAPES, IGNORE_LABEL, ClassTable
from utils.errors import UserError

__all__ = ["Layout", "Sample", "SegmentationDataset", "sample_rng"]
Transform = Callable[..., tuple]  # see transforms/presets.py


def sample_rng(*key: int) -> np.random.Generator:
    """Return the random generator of one sample, from `key` = (seed, epoch, index, ...), all >= 0."""
    return np.random.default_rng(key)


class SegmentationDataset(ListedDataset, Dataset):
    """Images of one domain with labels in train ids.

    A subclass says where its files are (see ListedDataset), which `classes` it has and which label value is
    which train id (`table`, see labels.py). Where labels are not one channel of values, it overrides
    `decode_label`.

    `transform(image, label, centroid, rng)` gets the RGB image and the label of train ids, or None, as
    LazyImages. It returns tensors (3, H, W) and (H, W) or None. An item depends only on (seed, epoch, index).
    Errors are those of ListedDataset; reading raises UserError that names the file.
    """

    classes: ClassVar[ClassTable | None] = CITYSCAPES  # None where there are no labels
    table: ClassVar[np.ndarray] = train_id_table(len(CITYSCAPES))
    # Sets of train ids over which a mean IoU is usual besides that over all classes: {its name: train ids}.
    subsets: ClassVar[dict[str, tuple[int, ...]]] = {}

    def __init__(
        self, root: str | Path, split: str, transform: Transform | None, *, seed: int = 0, **listing: Any
    ):
        if self.classes is not None:
            allowed = [*range(len(self.classes)), IGNORE_LABEL, INVALID]
            if unknown := sorted(set(self.table.tolist()) - set(allowed)):
                raise ValueError(
                    f"table of {self.name} has train id {unknown[0]} of {len(self.classes)} classes"
                )
        super().__init__(root, split, **listing)
        self.transform, self.seed, self.epoch = transform, seed, 0

    def decode_label(self, image: Image.Image) -> np.ndarray:
        """Return the train ids or 255 of an opened label file, uint8 (H, W); UserError for an unknown one."""
        if image.mode in ("L", "P"):
            train_ids = np.asarray(image.point(self.table.tolist()))
            unknown = train_ids == INVALID
        elif image.mode[0] == "I":
            values = np.asarray(image)
            train_ids = self.table.take(values.astype(np.uint8))
            unknown = (train_ids == INVALID) | (values < 0) | (values > 255)
        else:
            raise UserError(f"a label has one channel of class ids, this one is a {image.mode} image")
        if unknown.any():
            known = as_ranges(np.flatnonzero(self.table != INVALID))
            value = np.asarray(image)[unknown][0]
            raise UserError(f"class id {value} is not one of {self.name}'s: {known}")
        return train_ids

    def label_content(self, content: bytes) -> bytes:
        """Return a label file's content as that of an image file which Pillow opens for `decode_label`."""
        return content

    def open_label(self, path: Path) -> LazyImage:
        """Return the label of train ids or 255, which is decoded where it is used."""
        file = f"label {path}"
        content = read_content(path, file)
        with user_errors_name(file):
            content = self.label_content(content)
        return LazyImage(content, self.decode_label, file)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the train ids or 255 of a label file, uint8 (H, W)."""
        return np.asarray(self.open_label(path))

    def open_image(self, path: Path) -> LazyImage:
        """Return the RGB image, which is decoded where it is used."""
        file = f"image {path}"
        return LazyImage(read_content(path, file), to_rgb, file)

    def open(self, sample: Sample) -> tuple[LazyImage, LazyImage | None]:
        """Return the opened image and label of a sample; UserError if they differ in size."""
        image = self.open_image(sample.image)
        if sample.label is None:
            return image, None
        label = self.open_label(sample.label)
        if label.size != image.size:
            raise UserError(
                f"image and label differ in size: {sample.image} is {image.width}x{image.height}, "
                f"{sample.label} is {label.width}x{label.height}"
            )
        return image, label

    def augment(self, sample: Sample, image: Any, label: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Apply the transform to what `open` returned, or to what stands in for it; see `load`."""
        assert self.transform is not None
        image, label, *drawn = self.transform(image, label, sample.centroid, rng)
        if label is None:
            label = torch.full(image.shape[-2:], IGNORE_LABEL)
        item = {"image": image, "label": label, "name": self.name_of(sample)}
        return item | {"photometric": drawn[0]} if drawn else item

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return {"image": float32 (3, H, W), "label": int64 (H, W), all 255 without one, "name": str}.

        With `presets.DevicePreset`, the image is uint8 and "photometric" holds what the device does with it.
        """
        return self.augment(sample, *self.open(sample), rng)

    def set_epoch(self, epoch: int) -> None:
        """Make the items those of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.load(self.samples[index], sample_rng(self.seed, self.epoch, index))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB; UserError where that would lose bits."""
    if image.mode[0] in "IF":
        raise UserError(f"an image has 8 bits per channel, this one is a {image.mode} image")
    return image if image.mode == "RGB" else image.convert("RGB")
