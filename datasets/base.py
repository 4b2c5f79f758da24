"""Samples and the one class that opens dataset files."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from datasets.labels import IGNORE_LABEL, INVALID, TRAIN_ID_TO_TRAIN_ID
from datasets.lazy import LazyImage, naming
from datasets.samplers import process_place
from datasets.splits import as_ranges, read_split, split_names

logger = logging.getLogger("robustnet")
NAMED = 20  # files that a log line names at most


class Sample(NamedTuple):
    image: Path
    label: Path | None
    centroid: tuple[int, int] | None = None  # (x, y) px of the full image that the training crop must contain


class Layout(NamedTuple):
    """Where one arrangement of a dataset keeps its files; `{split}` stands for the split's folder.

    A flat download has all images NUMBER.png in one folder; split_data/ says which are in the split.
    """

    images: str
    labels: str
    image_suffix: str = ".png"
    label_suffix: str = ".png"
    flat: bool = False

    def __str__(self) -> str:
        if self.flat:
            return f"{self.images}/NUMBER{self.image_suffix} with {self.labels}/NUMBER{self.label_suffix}"
        return f"{self.images}/**/*{self.image_suffix} with {self.labels}/**/*{self.label_suffix}"


def without_label(sample: Sample) -> str:
    """Say that the label of `sample` is not there."""
    return f"image without its label: {sample.image} needs {sample.label}, which is not there"


def sample_rng(*key: int) -> np.random.Generator:
    """Return the generator of one sample, a function of `key` = (seed, epoch, index, ...) alone, all >= 0."""
    return np.random.default_rng(key)


def files_below(folder: Path, suffixes, *, deep: bool = True) -> list[Path]:
    """Return the files at any depth below `folder` (or, not `deep`, right in it) that end in `suffixes`.

    Sorted, without hidden ones; none if there is no such folder. ValueError names an unreadable folder.
    """

    def fail(error):
        raise ValueError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    found = []
    for parent, _, names in os.walk(folder, onerror=fail, followlinks=True) if folder.is_dir() else ():
        found += [Path(parent, name) for name in names if name.endswith(suffixes) and name[0] != "."]
        if not deep:
            break
    return sorted(found)


def found_in(folder: Path) -> str:
    """Say in a few words what is in `folder`, or in its nearest parent that exists."""
    if not folder.exists():
        return f"{folder.name} does not exist, {found_in(folder.parent)}"
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    more = f", ... ({len(entries)} entries)" if len(entries) > 5 else ""
    return f"{folder} holds {', '.join(entries[:5]) or 'nothing'}{more}"


class SegmentationDataset(Dataset):
    """Images of one domain with labels in Cityscapes train ids.

    A subclass says where its files are (`layouts`, `folders`) and how label values map to train ids
    (`table`). `transform(image, label, centroid, rng)` gets the RGB image and the label of train ids (or
    None) as `LazyImage`s and returns tensors (3, H, W) float32 and (H, W) int64 (or None). What a sample
    becomes depends on (seed, epoch, index) only. `cv` chooses one of `cv_splits` cross-validation splits, and
    nothing where there are none. Not `labelled`: no label is looked for.

    Raises FileNotFoundError for a root without this dataset or an image without its label, ValueError for a
    split that the dataset does not have, an unreadable folder, two images of one name and, if `strict`, files
    that are left out; otherwise these are logged and kept in `skipped`, a sentence for each reason.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    layouts: ClassVar[tuple[Layout, ...]] = ()
    folders: ClassVar[dict[str, str]] = {}  # split -> folder, where they differ
    table: ClassVar[np.ndarray] = TRAIN_ID_TO_TRAIN_ID  # uint8 (256,): label value -> train id
    cv_splits: ClassVar[int] = 0

    def __init__(
        self,
        root,
        split: str,
        transform,
        *,
        cv: int = 0,
        seed: int = 0,
        strict: bool = False,
        labelled: bool = True,
    ):
        if split not in self.splits:
            raise ValueError(f"{self.name} has no split {split!r}, it has {', '.join(self.splits)}")
        if self.cv_splits and cv not in range(self.cv_splits):
            last = self.cv_splits - 1
            raise ValueError(f"cv {cv} is not a cross-validation split of {self.name}, 0..{last} are")
        self.root, self.split, self.transform, self.cv = Path(root), split, transform, cv
        self.seed, self.strict, self.labelled, self.epoch = seed, strict, labelled, 0
        self.skipped: list[str] = []
        self.samples = self.find_samples()
        if not self.samples and self.layouts:
            why = "; ".join(
                [f"none of the images of {self.name} in {root} is in split {split}", *self.skipped]
            )
            raise FileNotFoundError(why)
        by_name = {}
        for sample in self.samples:
            if (first := by_name.setdefault(self.name_of(sample), sample)) is not sample:
                raise ValueError(f"two images of one name: {first.image} and {sample.image}")

    def find_samples(self) -> list[Sample]:
        """Return the split's samples in the order of their paths."""
        return self.list_split(self.split)

    def list_split(self, split: str, layouts: tuple[Layout, ...] | None = None) -> list[Sample]:
        folder, layouts = self.folders.get(split, split), layouts or self.layouts
        for layout in layouts:
            images = self.root / layout.images.format(split=folder)
            labels = self.root / layout.labels.format(split=folder)
            if paths := files_below(images, layout.image_suffix, deep=not layout.flat):
                paths = self._of_split(paths, split) if layout.flat else paths
                return self._pair(paths, images, labels, layout, labels_optional=split == "test")
        wanted = " or ".join(str(layout).format(split=folder) for layout in layouts)
        found = found_in(self.root / layouts[0].images.format(split=folder))
        raise FileNotFoundError(
            f"no {split} images of {self.name} in {self.root}: expected {wanted}; found: {found}"
        )

    def _of_split(self, paths: list[Path], split: str) -> list[Path]:
        """Return those of a flat download's `paths` whose number is in the published list of `split`."""
        known = {number for name in split_names(self.name) for number in read_split(name)}
        numbered = {int(path.stem): path for path in paths if path.stem.isdecimal()}
        taken = {path for number, path in numbered.items() if number in known}
        self.skip([path for path in paths if path not in taken], "images of no published split")
        wanted = read_split(f"{self.name}_{split}")
        if missing := sorted(wanted - set(numbered)):
            self.skip(
                as_ranges(missing).split(", "),
                f"{len(missing)} of {len(wanted)} published images are missing",
            )
        return [numbered[number] for number in sorted(wanted & set(numbered))]

    def skip(self, files: list, why: str) -> None:
        """Log once that `files`, if any, are left out and `why`; ValueError if strict."""
        if not files:
            return
        more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
        text = f"{self.name} {self.split}: {why}: {', '.join(map(str, files[:NAMED]))}{more}"
        if self.strict:
            raise ValueError(f"{text}; without --strict_data they are left out")
        rank, _ = process_place(None, None)
        logger.log(logging.DEBUG if rank else logging.WARNING, "left out, %s", text)
        self.skipped.append(text)

    def _pair(self, paths, images, labels, layout, labels_optional) -> list[Sample]:
        if not self.labelled or (labels_optional and not labels.is_dir()):
            return [Sample(path, None) for path in paths]
        present = set(files_below(labels, layout.label_suffix, deep=not layout.flat))
        samples = []
        for path in paths:
            label = labels / path.relative_to(images)
            label = label.with_name(path.name.removesuffix(layout.image_suffix) + layout.label_suffix)
            samples.append(Sample(path, label))
        if not layout.flat:
            self.skip(sorted(present - {sample.label for sample in samples}), "labels without their image")
        if missing := [sample for sample in samples if sample.label not in present]:
            self.without_labels(missing)
        return [sample for sample in samples if sample.label in present]

    def without_labels(self, samples: list[Sample]) -> None:
        """Raise FileNotFoundError: the labels of `samples` are not there."""
        more = f"; so it is with {len(samples) - 1} more images" if len(samples) > 1 else ""
        raise FileNotFoundError(without_label(samples[0]) + more)

    def decode_label(self, image: Image.Image) -> np.ndarray:
        """Return train ids or 255 as uint8 (H, W) from an opened label file; ValueError for an unknown id.

        Datasets with labels of their own kind override `label_ids` and `train_ids`, of which this is made.
        """
        return self.train_ids(self.label_ids(image))

    def label_ids(self, image: Image.Image) -> np.ndarray:
        """Return the class ids (H, W) as an opened label file has them."""
        values = np.asarray(image)
        if values.ndim != 2 or values.dtype.kind not in "iu":
            raise ValueError(f"a label has one channel of class ids, this one is a {image.mode} image")
        return values

    def train_ids(self, values: np.ndarray) -> np.ndarray:
        """Return the train ids or 255, uint8, of a label file's class ids; ValueError for an unknown one."""
        train_ids = self.table.take(values.astype(np.uint8, copy=False))
        unknown = train_ids == INVALID
        if values.dtype != np.uint8:
            unknown |= (values < 0) | (values > 255)
        if unknown.any():
            value, accepted = values[unknown][0], as_ranges(np.flatnonzero(self.table != INVALID))
            raise ValueError(f"class id {value} is not one of {self.name}'s: {accepted}")
        return train_ids

    def label_content(self, path: Path) -> bytes:
        """Return the label as an image file that Pillow decodes to what `decode_label` reads."""
        return path.read_bytes()

    def open_label(self, path: Path, decode: Callable | None = None) -> LazyImage:
        """Return the label of train ids or 255 (or what else `decode` makes), decoded where it is used.

        ValueError naming a damaged file or, where it is decoded, an unknown id.
        """
        with naming(f"label {path}"):
            content = self.label_content(path)
        return LazyImage(content, decode or self.decode_label, f"label {path}")

    def read_label(self, path: Path) -> np.ndarray:
        """Return train ids or 255 as uint8 (H, W); errors are those of `open_label`."""
        return np.asarray(self.open_label(path))

    def read_ids(self, path: Path) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Return a label's ids (H, W) and what turns any of them into train ids or 255.

        So not all of them need be looked up. Errors are those of `open_label`; unknown ids are found by the
        look-up.
        """
        return np.asarray(self.open_label(path, self.label_ids)), self.train_ids

    def open_image(self, path: Path) -> LazyImage:
        """Return the image in RGB, to be decoded where it is used; ValueError naming the file if damaged."""
        with naming(f"image {path}"):
            content = path.read_bytes()
        return LazyImage(content, to_rgb, f"image {path}")

    def open(self, sample: Sample) -> tuple[LazyImage, LazyImage | None]:
        """Return a sample's opened files; ValueError naming them if they are damaged or differ in size."""
        image = self.open_image(sample.image)
        if sample.label is None:
            return image, None
        label = self.open_label(sample.label)
        if label.size != image.size:
            raise ValueError(
                f"image and label differ in size: {sample.image} is {image.width}x{image.height}, "
                f"{sample.label} is {label.width}x{label.height}"
            )
        return image, label

    def augment(self, sample: Sample, image, label, rng: np.random.Generator) -> dict:
        """Apply the transform to what `open` returned, or stand-ins for it."""
        image, label, *drawn = self.transform(image, label, sample.centroid, rng)
        if label is None:
            label = torch.full(image.shape[-2:], IGNORE_LABEL)
        item = {"image": image, "label": label, "name": self.name_of(sample)}
        return item | {"photometric": drawn[0]} if drawn else item

    def load(self, sample: Sample, rng: np.random.Generator) -> dict:
        """Return {"image": float32 (3, H, W), "label": int64 (H, W), 255 without one, "name": str}.

        With `presets.DevicePreset` the image is uint8 and "photometric" what the device shall do with it.
        """
        return self.augment(sample, *self.open(sample), rng)

    def name_of(self, sample: Sample) -> str:
        """Return the image's file name without the dataset's suffix."""
        return sample.image.name.removesuffix(self.layouts[0].image_suffix)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.load(self.samples[index], sample_rng(self.seed, self.epoch, index))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB; ValueError where that would lose bits."""
    if image.mode[0] in "IF":
        raise ValueError(f"an image has 8 bits per channel, this one is a {image.mode} image")
    return image if image.mode == "RGB" else image.convert("RGB")
