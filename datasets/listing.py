"""Which files a split of a dataset consists of."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

from datasets.splits import as_ranges, read_split, split_names
from utils import distributed
from utils.errors import MissingFile, UserError

logger = logging.getLogger("robustnet")
MAX_NAMED = 20  # files in one log line


class Sample(NamedTuple):
    image: Path
    label: Path | None
    centroid: tuple[int, int] | None = None  # (x, y) px of the full image that the training crop contains


class Layout(NamedTuple):
    """Where one arrangement of a dataset keeps its files; `{split}` stands for the split's folder.

    A label has the path of its image, with the folder and the suffix exchanged. A `flat` layout has all
    images NUMBER.png in one folder; the lists in split_data/ say which of them are in the split.
    """

    images: str
    labels: str
    image_suffix: str | tuple[str, ...] = ".png"  # a tuple where the images differ in it
    label_suffix: str = ".png"
    flat: bool = False

    def __str__(self) -> str:
        below = "NUMBER" if self.flat else "**/*"
        suffix = self.image_suffix if isinstance(self.image_suffix, str) else "|".join(self.image_suffix)
        return f"{self.images}/{below}{suffix} with {self.labels}/{below}{self.label_suffix}"

    def stem(self, image: Path) -> str:
        """Return the name of an image without the layout's suffix."""
        suffixes = (self.image_suffix,) if isinstance(self.image_suffix, str) else self.image_suffix
        return image.name.removesuffix(next((end for end in suffixes if image.name.endswith(end)), ""))


class NoImages(MissingFile):
    """None of a dataset's layouts has images of the split."""


class ListedDataset:
    """The samples of one split of a dataset on disk.

    `cv` chooses one of `cv_splits` cross-validation splits of datasets that have them. With `labelled` False
    no label is looked for. An image without its label is an error; with `skip_unlabelled` it is left out.

    `skipped` has a sentence for each kind of file that was left out. The sentences are logged. With `strict`
    they are errors instead, except for images without their label.

    Raises NoImages for a root without this split, MissingFile for an image without its label, and UserError
    for an unknown split, a folder that cannot be read and two images of one name.
    """

    name: ClassVar[str]
    root_variable: ClassVar[str] = ""  # environment variable and constant of config.py with the root
    root_name: ClassVar[str] = ""  # folder of the root below --data_root, where it is not `name`
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    unlabelled_splits: ClassVar[tuple[str, ...]] = ("test",)  # whose labels need not be there
    layouts: ClassVar[tuple[Layout, ...]] = ()
    folders: ClassVar[dict[str, str]] = {}  # split -> folder, where they differ
    cv_splits: ClassVar[int] = 0
    published: ClassVar[dict[str, int]] = {}  # split -> number of images
    published_is_sure: ClassVar[bool] = True  # whether another number of images is a fault of the data
    # What prepare_data wants of a download: (regular expression for the end of a path, path below the root).
    # The group `number` gives {split}, by split_data/, and {part}, 01 for the numbers 1 to 2500.
    download: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        cv: int = 0,
        strict: bool = False,
        labelled: bool = True,
        skip_unlabelled: bool = False,
    ):
        self.check_split(split, cv)
        self.root, self.split, self.cv = Path(root), split, cv
        self.strict, self.labelled, self.skip_unlabelled = strict, labelled, skip_unlabelled
        self.skipped: list[str] = []
        self.samples = self.find_samples()
        if not self.samples and self.layouts:
            nothing = f"none of the images of {self.name} in {root} is in split {split}"
            raise MissingFile("; ".join([nothing, *self.skipped]))
        by_name: dict[str, Sample] = {}
        for sample in self.samples:
            if (first := by_name.setdefault(self.name_of(sample), sample)) is not sample:
                raise UserError(f"two images of one name: {first.image} and {sample.image}")

    @classmethod
    def check_split(cls, split: str, cv: int = 0) -> None:
        """Raise UserError for a split or cross-validation split that the dataset does not have."""
        if split not in cls.splits:
            raise UserError(f"{cls.name} has no split {split!r}, it has {', '.join(cls.splits)}")
        if cls.cv_splits and cv not in range(cls.cv_splits):
            last = cls.cv_splits - 1
            raise UserError(f"cv {cv} is not a cross-validation split of {cls.name}, 0..{last} are")

    def find_samples(self) -> list[Sample]:
        """Return the split's samples in the order of their paths."""
        return self.list_split(self.split)

    def list_split(self, split: str, layouts: tuple[Layout, ...] | None = None) -> list[Sample]:
        """Return the samples of `split` in the first of `layouts` that has images.

        A layout whose folder of labels is there comes before those without one.
        """
        folder, layouts = self.folders.get(split, split), layouts or self.layouts
        by_labels = sorted(layouts, key=lambda layout: not self._below(layout.labels, folder).is_dir())
        for layout in by_labels:
            images, labels = (self._below(path, folder) for path in (layout.images, layout.labels))
            if paths := files_below(images, layout.image_suffix, deep=not layout.flat):
                paths = self._of_split(paths, split) if layout.flat else paths
                if not self.labelled or (split in self.unlabelled_splits and not labels.is_dir()):
                    return [Sample(path, None) for path in paths]
                return self._with_labels(paths, images, labels, layout)
        expected = " or ".join(str(layout).format(split=folder) for layout in layouts)
        found = found_in(self.root / layouts[0].images.format(split=folder))
        raise NoImages(
            f"no {split} images of {self.name} in {self.root}: expected {expected}; found: {found}"
        )

    def _below(self, path: str, folder: str) -> Path:
        return self.root / path.format(split=folder)

    def _of_split(self, paths: list[Path], split: str) -> list[Path]:
        """Return those of a flat download's `paths` whose number is in the published list of `split`."""
        published = {number for name in split_names(self.name) for number in read_split(name)}
        numbered = {int(path.stem): path for path in paths if path.stem.isdecimal()}
        usable = {path for number, path in numbered.items() if number in published}
        self.skip([path for path in paths if path not in usable], "images of no published split")
        wanted = read_split(f"{self.name}_{split}")
        if missing := sorted(wanted - set(numbered)):
            reason = f"{len(missing)} of {len(wanted)} published images are missing"
            self.skip(as_ranges(missing).split(", "), reason)
        return [numbered[number] for number in sorted(wanted & set(numbered))]

    def _with_labels(self, paths: list[Path], images: Path, labels: Path, layout: Layout) -> list[Sample]:
        present = set(files_below(labels, layout.label_suffix, deep=not layout.flat))
        samples = []
        for path in paths:
            label = labels / path.relative_to(images)
            label = label.with_name(layout.stem(path) + layout.label_suffix)
            samples.append(Sample(path, label))
        if not layout.flat:
            self.skip(sorted(present - {sample.label for sample in samples}), "labels without their image")
        missing = [
            f"image without its label: {image} needs {label}, which is not there"
            for image, label, _ in samples
            if label not in present
        ]
        if missing and not self.skip_unlabelled:
            more = f"; so do {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise MissingFile(missing[0] + more)
        self.skipped += missing
        return [sample for sample in samples if sample.label in present]

    def skip(self, files: Iterable[Path | str], why: str) -> None:
        """Log that `files`, if there are any, are left out, and `why`; UserError if strict."""
        names = [str(file) for file in files]
        if not names:
            return
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        text = f"{self.name} {self.split}: {why}: {', '.join(names[:MAX_NAMED])}{more}"
        if self.strict:
            raise UserError(f"{text}; without --strict_data they are left out")
        logger.log(logging.WARNING if distributed.is_main() else logging.DEBUG, "left out, %s", text)
        self.skipped.append(text)

    def name_of(self, sample: Sample) -> str:
        """Return the image's file name without the dataset's suffix."""
        return self.layouts[0].stem(sample.image)


def files_below(folder: Path, suffixes: str | tuple[str, ...], *, deep: bool = True) -> list[Path]:
    """Return the files below `folder` whose names end in `suffixes`, sorted, without hidden ones.

    With `deep` at any depth, otherwise directly in the folder. A folder that does not exist has no files.
    Raises UserError for a folder that cannot be read.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"folder {error.filename} cannot be read: {error.strerror}") from error

    found: list[Path] = []
    for parent, _, names in os.walk(folder, onerror=fail, followlinks=True) if folder.is_dir() else ():
        found += [Path(parent, name) for name in names if name.endswith(suffixes) and name[0] != "."]
        if not deep:
            break
    return sorted(found)


def found_in(folder: Path) -> str:
    """Describe in a few words what is in `folder`, or in its nearest parent that exists."""
    if not folder.exists():
        return f"{folder.name} does not exist, {found_in(folder.parent)}"
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    more = f", ... ({len(entries)} entries)" if len(entries) > 5 else ""
    return f"{folder} holds {', '.join(entries[:5]) or 'nothing'}{more}"
