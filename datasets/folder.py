"""Any folder or list of images, without labels."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datasets.base import Sample, SegmentationDataset
from datasets.listing import NoImages
from datasets.walk import IMAGE_SUFFIXES, UNREADABLE, described, found_in, images_of, walk
from utils.errors import MissingFile, UserError, few
from utils.files import printable, read_text

LONGEST = 300  # characters of a path in a message


class Folder(SegmentationDataset):
    """The images at any depth below the root, the same in every split.

    An image is named by its path without the suffix; images that differ only in it, such as x.png and x.jpg,
    are named with it. An image that cannot be read becomes an item without pixels that gives the reason under
    "unreadable"; with `strict` it is an error. The root may also be a text file with one path of an image per
    line, relative to the folder of the text file, or one image. Each image
    is listed once, whatever links lead to it. Hidden files and results of eval.py are left out.
    """

    name = "folder"
    root_variable = "FOLDER_DIR"
    classes = None

    def find_samples(self) -> list[Sample]:
        paths = self._paths()
        self.twins = alike([self._from_root(path) for path in paths])
        if self.twins:
            names = few([printable(path) for path in sorted(self.twins)], 3)
            self.note(f"results keep the suffix of images that differ in nothing else: {names}")
        return [Sample(path, None) for path in paths]

    def _paths(self) -> list[Path]:
        if self.root.is_file():
            return [self.root] if self.root.suffix.lower() in IMAGE_SUFFIXES else self._listed()
        found = walk(self.root, once=True)
        paths, others = images_of(found.files)
        if not paths:
            expected = ", *".join(IMAGE_SUFFIXES)
            root, found_there = printable(self.root), found_in(self.root)
            raise NoImages(f"no images in {root}: expected files *{expected}; found: {found_there}")
        self.skip(others.pop(UNREADABLE, []), UNREADABLE)
        if left_out := found.left_out | others:
            self.note(f"left out of {printable(self.root)}: {described(left_out, self.root)}")
        return paths

    def _listed(self) -> list[Path]:
        text, shown = read_text(self.root), printable(self.root)
        if "\0" in text:
            raise UserError(
                f"{shown} is not a text file: name a folder, an image, or a list with one path per line"
            )
        lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
        named = {line: self._path(line) for line in lines if line}
        missing = [line for line, path in named.items() if not is_file(path)]
        comments = {line for line in missing if line[0] == "#"}
        if missing := [printable(named[line]) for line in missing if line not in comments]:
            names = few([name if len(name) < LONGEST else f"{name[:LONGEST]} ..." for name in missing], 3)
            where = "relative paths begin at the folder of the list"
            raise MissingFile(f"{len(missing)} images of list {shown} are not there ({where}): {names}")
        given = [named[line] for line in lines if line and line not in comments]
        if not given:
            raise MissingFile(f"list {shown} names no image")
        paths: dict[str, Path] = {}  # by the file that a path leads to
        for path in given:
            paths.setdefault(os.path.realpath(path), path)
        if len(paths) < len(given):
            self.note(f"list {shown} names {len(given) - len(paths)} files again, used once each")
        return [*paths.values()]

    def _path(self, line: str) -> Path:
        """Return the path that a line names, which may have been written on Windows."""
        path = self.root.parent / re.sub("^//+", "/", line)  # Python keeps two slashes, as POSIX allows
        other = self.root.parent / line.replace("\\", "/")
        return path if is_file(path) or not is_file(other) else other

    def plain_name(self, sample: Sample) -> str:
        """Return the image's path without its suffix: below the root, or the whole one if it is elsewhere."""
        path = self._from_root(sample.image)
        return (path if path in self.twins else path.with_suffix("")).as_posix()

    def _from_root(self, image: Path) -> Path:
        folder = self.root.parent if self.root.is_file() else self.root
        image, folder = (Path(os.path.abspath(path)) for path in (image, folder))
        return image.relative_to(folder) if image.is_relative_to(folder) else image.relative_to("/")

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return super().__getitem__(index)
        except UserError as error:
            if self.strict:
                raise
            name, label = self.name_of(self.samples[index]), torch.empty(0, 0, dtype=torch.int64)
            return {"image": torch.empty(3, 0, 0), "label": label, "name": name, "unreadable": str(error)}


def is_file(path: Path) -> bool:
    """Return whether there is a file at `path`, which may be no path at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long
        return False


def alike(paths: Sequence[Path]) -> set[Path]:
    """Return those of `paths` that must keep their suffix so that all names are different."""
    kept: set[Path] = set()
    while True:
        names = Counter(path if path in kept else path.with_suffix("") for path in paths)
        twins = {path for path in paths if path not in kept and names[path.with_suffix("")] > 1}
        if not twins:
            return kept
        kept |= twins
