"""Which files a split of a dataset consists of."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

from datasets.splits import as_ranges, read_split, split_names
from datasets.walk import IMAGE_SUFFIXES, UNREADABLE, described, found_in, images_of, stem_of, walk
from utils import distributed
from utils.errors import MissingFile, UserError, few
from utils.files import printable, safe_name
from utils.versions import versions

logger = logging.getLogger("robustnet")


class Sample(NamedTuple):
    image: Path
    label: Path | None
    centroid: tuple[int, int] | None = None  # (x, y) px of the full image that the training crop contains


class Layout(NamedTuple):
    """Where one arrangement of a dataset keeps its files; `{split}` stands for the split's folder.

    A label has the path of its image, with the folder and the suffix exchanged. A `flat` layout has all
    images NUMBER.png in one folder; the lists in split_data/ say which of them are in the split. The
    extension of images and labels may also be in upper case or that of another kind of image, see
    `walk.stem_of`.
    """

    images: str
    labels: str
    image_suffix: str | tuple[str, ...] = ".png"  # a tuple where the images differ in it
    label_suffix: str = ".png"
    flat: bool = False

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.image_suffix,) if isinstance(self.image_suffix, str) else self.image_suffix

    def __str__(self) -> str:
        below = "NUMBER" if self.flat else "**/*"
        return f"{self.images}/{below}{'|'.join(self.suffixes)} with {self.labels}/{below}{self.label_suffix}"

    def stem(self, image: Path) -> str | None:
        """Return the name of an image without the layout's suffix; None if it does not end in it."""
        exact = (end for end in self.suffixes if image.name.endswith(end))
        return next(
            (stem for end in (*exact, *self.suffixes) if (stem := stem_of(image.name, end)) is not None), None
        )


class NoImages(MissingFile):
    """None of a dataset's layouts has images of the split."""


class ListedDataset:
    """The samples of one split of a dataset on disk.

    `cv` chooses one of `cv_splits` cross-validation splits of datasets that have them. With `labelled` False
    no label is looked for. An image without its label is an error; with `skip_unlabelled` it is left out.

    `skipped` has a sentence for each kind of data that was left out. The sentences are logged. With `strict`
    they are errors instead, except for images without their label. `counts` has the number of files of each
    sentence that speaks of several. `incomplete` are the sentences that say that images of a published split
    are missing. `notes` has a sentence for each kind of file that is not data of the dataset, such as hidden
    ones.

    Raises NoImages for a root without this split, MissingFile for an image without its label, and UserError
    for an unknown split, a folder that cannot be read and two images of one name.
    """

    name: ClassVar[str]
    root_variable: ClassVar[str] = ""  # environment variable and constant of config.py with the root
    root_name: ClassVar[str] = ""  # folder of the root below --data_root, where it is not `name`
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    lists: ClassVar[tuple[str, ...]] = ()  # splits by number in any folder; split_data/LIST_NAME.txt
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
        self.counts: dict[str, int] = {}
        self.incomplete: list[str] = []
        self.notes: list[str] = []
        self.samples = self.find_samples()
        if not self.samples and self.layouts:
            nothing = f"none of the images of {self.name} in {printable(root)} is in split {split}"
            more = f"; and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
            kind = MissingFile if len(self.skipped) > len(self.incomplete) else NoImages
            raise kind("; ".join([nothing, *self.skipped[:3]]) + more)
        by_name: dict[str, Sample] = {}
        for sample in self.samples:
            if (first := by_name.setdefault(self.name_of(sample), sample)) is not sample:
                both = f"{printable(first.image)} and {printable(sample.image)}"
                raise UserError(f"two images of one name: {both}")
        odd = [sample for sample in self.samples if self.name_of(sample) != self.plain_name(sample)]
        if odd:
            names = [f"{printable(self.plain_name(sample))} as {self.name_of(sample)}" for sample in odd]
            self.note(f"names that no file of results can have are written as others: {few(names, 3)}")
        files = (file for sample in self.samples for file in (sample.image, sample.label) if file)
        self.versions = versions(files)  # as they were now

    @classmethod
    def check_split(cls, split: str, cv: int = 0) -> None:
        """Raise UserError for a split or cross-validation split that the dataset does not have."""
        if split not in cls.splits + cls.lists:
            has = ", ".join(cls.splits + cls.lists)
            raise UserError(f"{cls.name} has no split {split!r}, it has {has}")
        if cls.cv_splits and cv not in range(cls.cv_splits):
            last = cls.cv_splits - 1
            raise UserError(f"cv {cv} is not a cross-validation split of {cls.name}, 0..{last} are")

    def find_samples(self) -> list[Sample]:
        """Return the split's samples in the order of their paths."""
        return self.list_numbers(self.split) if self.split in self.lists else self.list_split(self.split)

    def list_split(self, split: str, layouts: tuple[Layout, ...] | None = None) -> list[Sample]:
        """Return the samples of `split` in the first of `layouts` that has images.

        A layout whose folder of labels is there comes before those without one.
        """
        folder, layouts = self.folders.get(split, split), layouts or self.layouts
        by_labels = sorted(layouts, key=lambda layout: not self._below(layout.labels, folder).is_dir())
        for layout in by_labels:
            images, labels = (self._below(path, folder) for path in (layout.images, layout.labels))
            if paths := self._images(images, layout):
                paths = self._of_split(paths, split) if layout.flat else paths
                if not self.labelled or (split in self.unlabelled_splits and not labels.is_dir()):
                    return [Sample(path, None) for path in paths]
                return self._with_labels(paths, images, labels, layout)
        expected = " or ".join(str(layout).format(split=folder) for layout in layouts)
        found = found_in(self.root / layouts[0].images.format(split=folder))
        raise NoImages(
            f"no {split} images of {self.name} in {printable(self.root)}: expected {expected}; found: {found}"
        )

    def list_numbers(self, name: str) -> list[Sample]:
        """Return the images whose numbers split_data/ lists, of the flat download or any folder below it.

        Splits of made-up data may share numbers; the published ones do not.
        """
        (layout,) = (layout._replace(flat=False) for layout in self.layouts if layout.flat)
        images, labels = self.root / layout.images, self.root / layout.labels
        wanted = read_split(f"{name}_{self.name}")
        train = self.folders.get("train", "train")
        numbered: dict[int, Path] = {}  # of images that two splits have, the one for training
        for path in sorted(self._images(images, layout), key=lambda path: train not in path.parts):
            if path.stem.isdecimal():
                numbered.setdefault(int(path.stem), path)
        listed = sorted(path for number, path in numbered.items() if number in wanted)
        if missing := sorted(wanted - numbered.keys()):
            reason = f"{len(missing)} of {len(wanted)} images of {name} are missing"
            self.skip(as_ranges(missing).split(", "), reason)
            self.incomplete += self.skipped[-1:]
        if not self.labelled:
            return [Sample(path, None) for path in listed]
        return self._with_labels(listed, images, labels, layout, all_used=False)

    def _below(self, path: str, folder: str) -> Path:
        return self.root / path.format(split=folder)

    def _images(self, folder: Path, layout: Layout) -> list[Path]:
        """Return the images of a layout in `folder`, sorted; say what else is there."""
        found = walk(folder, deep=not layout.flat)
        images, others = images_of(found.files)
        others.pop("no images", None)
        if not layout.suffixes[0].lower().endswith(IMAGE_SUFFIXES):
            images = found.files
        stems = {path: layout.stem(path) for path in images}
        paths = [path for path in images if stems[path] is not None]
        named: dict[tuple, Path] = {}
        for path in sorted(paths, key=lambda path: (not path.name.endswith(layout.suffixes), path)):
            named.setdefault((path.parent, stems[path]), path)
        if paths:
            kept = set(named.values())
            self.skip([path for path in paths if path not in kept], "images beside one of the same name")
            self.skip(others.get(UNREADABLE, []), UNREADABLE)
            strangers = [path for path in images if stems[path] is None]
            ends = " or ".join(layout.suffixes)
            left_out = found.left_out | ({f"images not called *{ends}": strangers} if strangers else {})
            if left_out:
                self.note(f"left out of {printable(folder)}: {described(left_out, folder)}", logging.INFO)
        return sorted(named.values())

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
            self.incomplete += self.skipped[-1:]
        return [numbered[number] for number in sorted(wanted & set(numbered))]

    def _with_labels(
        self, paths: list[Path], images: Path, labels: Path, layout: Layout, all_used: bool = True
    ) -> list[Sample]:
        present: dict[tuple, Path] = {}  # (folder, name without the suffix) -> label
        files = walk(labels, deep=not layout.flat).files
        for path in sorted(files, key=lambda path: (not path.name.endswith(layout.label_suffix), path)):
            if (stem := stem_of(path.name, layout.label_suffix)) is not None:
                present.setdefault((path.parent, stem), path)
        samples, missing = [], []
        for image in paths:
            folder, stem = labels / image.relative_to(images).parent, layout.stem(image)
            if label := present.pop((folder, stem), None):
                samples.append(Sample(image, label))
            else:
                expected = printable(folder / f"{stem}{layout.label_suffix}")
                missing.append(
                    f"image without its label: {printable(image)} needs {expected}, which is not there"
                )
        if all_used and not layout.flat:
            self.skip(sorted(present.values()), "labels without their image")
        if missing and not self.skip_unlabelled:
            more = f"; so do {len(missing) - 1} more images" if len(missing) > 1 else ""
            raise MissingFile(missing[0] + more)
        self.skipped += missing
        return samples

    def skip(self, files: Iterable[Path | str], why: str) -> None:
        """Log that `files`, if there are any, are left out, and `why`; UserError if strict."""
        names = [printable(file) for file in files]
        if not names:
            return
        text = f"{self.name} {self.split}: {why}: {few(names)}"
        if self.strict:
            raise UserError(f"{text}; without --strict_data they are left out")
        logger.log(logging.WARNING if distributed.is_main() else logging.DEBUG, "left out, %s", text)
        self.skipped.append(text)
        self.counts[text] = len(names)

    def note(self, text: str, level: int = logging.WARNING) -> None:
        """Log what is said of files that are no data of the dataset."""
        logger.log(
            level if distributed.is_main() else logging.DEBUG, "%s %s: %s", self.name, self.split, text
        )
        self.notes.append(text)

    def name_of(self, sample: Sample) -> str:
        """Return the name of the image in results, which is a safe name; see `utils.files.safe_name`."""
        return safe_name(self.plain_name(sample))

    def plain_name(self, sample: Sample) -> str:
        """Return the image's file name without the dataset's suffix."""
        return self.layouts[0].stem(sample.image) or sample.image.stem
