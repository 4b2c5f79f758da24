"""Reading the files of a dataset: the only code that opens images and labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from datasets.labels import INVALID, train_id_table, train_ids
from datasets.lazy import LazyImage, read_content
from datasets.listing import Layout, ListedDataset, Sample
from utils.classes import CITYSCAPES, IGNORE_LABEL, ClassTable
from utils.errors import UserError
from utils.files import printable
from utils.images import COLOURED, check_label, palette_values, to_rgb, user_errors_name

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
    LazyImages. It returns tensors (3, H, W) and (H, W) or None; a DevicePreset also what it drew.
    A `corruption` changes the decoded image before the transform. An item depends only on (seed, epoch,
    index).
    Listing raises the errors of ListedDataset. Reading raises UserError that names a file that cannot be read
    or was changed after it was listed.
    """

    classes: ClassVar[ClassTable | None] = CITYSCAPES  # None where there are no labels
    table: ClassVar[np.ndarray] = train_id_table(len(CITYSCAPES))
    palette_ids: ClassVar[bool] = False  # whether an index of a palette with colours is a label value
    # Train ids of the classes that occur, over which the mean is taken; None: all classes. Predictions of
    # other classes count as errors of those that occur.
    occurring: ClassVar[tuple[int, ...] | None] = None
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
        self.corruption: Callable[[LazyImage, str], Image.Image] | None = None  # of an image and its name
        self.transform, self.seed, self.epoch = transform, seed, 0

    def decode_label(self, image: Image.Image) -> np.ndarray:
        """Return the train ids or 255 of an opened label file, uint8 (H, W); UserError for an unknown one."""
        return train_ids(image, self.table, self.name, self.palette_values)

    def palette_values(self, image: Image.Image) -> np.ndarray:
        """Return the value of each palette index; with `palette_ids` and a palette of colours, the index."""
        values = palette_values(image)
        return np.arange(256) if self.palette_ids and COLOURED in values else values

    def label_content(self, content: bytes) -> bytes:
        """Return the content of an image file for `decode_label`, made from that of a label file."""
        return content

    def open_label(self, path: Path) -> LazyImage:
        """Return the label of train ids or 255, which is decoded where it is used."""
        file = f"label {printable(path)}"
        content = read_content(path, file, self.versions.get(path))
        with user_errors_name(file):
            content = self.label_content(content)
        return LazyImage(content, self.decode_label, file, check_label)

    def read_label(self, path: Path) -> np.ndarray:
        """Return the train ids or 255 of a label file, uint8 (H, W)."""
        return np.asarray(self.open_label(path))

    def open_image(self, path: Path) -> LazyImage:
        """Return the RGB image, which is decoded where it is used."""
        file = f"image {printable(path)}"
        return LazyImage(read_content(path, file, self.versions.get(path)), to_rgb, file)

    def open(self, sample: Sample) -> tuple[LazyImage, LazyImage | None]:
        """Return the opened image and label of a sample.

        Raises UserError if they differ in size, and for a labelled image with an EXIF orientation.
        """
        image = self.open_image(sample.image)
        if sample.label is None:
            return image, None
        if image.orientation != 1:
            raise UserError(
                f"{image.file} has EXIF orientation {image.orientation}, its label has none, so it is not "
                "clear whether they match; turn the pixels as the label needs them and remove the tag"
            )
        label = self.open_label(sample.label)
        if label.size != image.size:
            raise UserError(
                f"image and label differ in size: {printable(sample.image)} is {image.width}x{image.height}, "
                f"{printable(sample.label)} is {label.width}x{label.height}"
            )
        return image, label

    def augment(self, sample: Sample, image: Any, label: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Apply the transform to an image and its label or None; return the item that `load` describes."""
        assert self.transform is not None
        image, label, *drawn = self.transform(image, label, sample.centroid, rng)
        if label is None:
            dtype = torch.uint8 if image.dtype == torch.uint8 else torch.int64
            label = torch.full(image.shape[-2:], IGNORE_LABEL, dtype=dtype)
        item = {"image": image, "label": label, "name": self.name_of(sample)}
        return item | {"photometric": drawn[0]} if drawn else item

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return {"image": float32 (3, H, W), "label": int64 (H, W), all 255 without one, "name": str}.

        With `presets.LevelsPreset` and `DevicePreset`, image and label are uint8. With the latter,
        "photometric" holds what the device does with the image.
        """
        image, label = self.open(sample)
        if self.corruption is not None:
            return self.augment(sample, self.corruption(image, self.name_of(sample)), label, rng)
        return self.augment(sample, image, label, rng)

    def set_epoch(self, epoch: int) -> None:
        """Make the items those of `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.load(self.samples[index], sample_rng(self.seed, self.epoch, index))
