"""Any folder of images, without labels."""

import torch

from datasets.base import Sample, SegmentationDataset, files_below, found_in

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


class Folder(SegmentationDataset):
    """The images at any depth below the root, the same in every split; named by path, without the suffix.

    One that cannot be read becomes an item of no pixels that says why under "unreadable", unless `strict`.
    """

    name = "folder"
    splits = ("train", "val", "test")

    def find_samples(self) -> list[Sample]:
        paths = files_below(self.root, SUFFIXES + tuple(map(str.upper, SUFFIXES)))
        if not paths:
            wanted = ", *".join(SUFFIXES)
            found = found_in(self.root)
            raise FileNotFoundError(f"no images in {self.root}: expected files *{wanted}; found: {found}")
        return [Sample(path, None) for path in paths]

    def name_of(self, sample: Sample) -> str:
        return sample.image.relative_to(self.root).with_suffix("").as_posix()

    def __getitem__(self, index: int) -> dict:
        try:
            return super().__getitem__(index)
        except ValueError as error:
            if self.strict:
                raise
            name, label = self.name_of(self.samples[index]), torch.empty(0, 0, dtype=torch.int64)
            return {"image": torch.empty(3, 0, 0), "label": label, "name": name, "unreadable": str(error)}
