"""Any folder or list of images, without labels."""

from typing import Any

import torch

from datasets.base import Sample, SegmentationDataset
from datasets.listing import NoImages, files_below, found_in
from utils.errors import MissingFile, UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


class Folder(SegmentationDataset):
    """The images at any depth below the root, the same in every split.

    An image is named by its path without the suffix. An image that cannot be read becomes an item without
    pixels that gives the reason under "unreadable"; with `strict` it is an error. The root may also be a text
    file with one path of an image per line, relative to the folder of the text file.
    """

    name = "folder"
    root_variable = "FOLDER_DIR"
    classes = None

    def find_samples(self) -> list[Sample]:
        if self.root.is_file():
            return self._listed()
        paths = files_below(self.root, SUFFIXES + tuple(map(str.upper, SUFFIXES)))
        if not paths:
            expected = ", *".join(SUFFIXES)
            found = found_in(self.root)
            raise NoImages(f"no images in {self.root}: expected files *{expected}; found: {found}")
        return [Sample(path, None) for path in paths]

    def _listed(self) -> list[Sample]:
        lines = [line.strip() for line in self.root.read_text().splitlines()]
        paths = [self.root.parent / line for line in lines if line]
        if missing := [path for path in paths if not path.is_file()]:
            raise MissingFile(f"{len(missing)} images of list {self.root} are not there: {missing[0]}")
        if not paths:
            raise MissingFile(f"list {self.root} names no image")
        return [Sample(path, None) for path in paths]

    def name_of(self, sample: Sample) -> str:
        folder = self.root.parent if self.root.is_file() else self.root
        if not sample.image.is_relative_to(folder):
            return sample.image.with_suffix("").as_posix().lstrip("/")
        return sample.image.relative_to(folder).with_suffix("").as_posix()

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return super().__getitem__(index)
        except UserError as error:
            if self.strict:
                raise
            name, label = self.name_of(self.samples[index]), torch.empty(0, 0, dtype=torch.int64)
            return {"image": torch.empty(3, 0, 0), "label": label, "name": name, "unreadable": str(error)}
