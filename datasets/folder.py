"""Any folder of images, without labels."""

from datasets.base import Sample, SegmentationDataset, files_below, found_in

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")


class Folder(SegmentationDataset):
    """The images at any depth below the root, the same in every split; named by path, without the suffix."""

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
