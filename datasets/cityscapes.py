"""Cityscapes, fine annotations (Cordts et al., CVPR 2016, arXiv 1604.01685)."""

from datasets.base import Layout, Sample, SegmentationDataset
from datasets.labels import ID_TO_TRAIN_ID

CV_SPLITS = 3


class Cityscapes(SegmentationDataset):
    """Cityscapes with labelIds PNGs.

    `cv` 0 is the official split. 1 and 2 redistribute its train and val cities: with the val cities first,
    both sorted, and n cities in all, split k validates on as many cities as val has, from number k * n // 3
    on.
    """

    name = "cityscapes"
    splits = ("train", "val", "test", "trainval")
    layouts = tuple(
        Layout(images + "/{split}", labels + "/{split}", "_leftImg8bit.png", "_gtFine_labelIds.png")
        for images, labels in (
            ("leftImg8bit_trainvaltest/leftImg8bit", "gtFine_trainvaltest/gtFine"),
            ("leftImg8bit", "gtFine"),
        )
    )
    table = ID_TO_TRAIN_ID

    def __init__(self, root, split, transform, *, cv: int = 0, **options):
        if cv not in range(CV_SPLITS):
            raise ValueError(f"cv {cv} is not a Cityscapes cross-validation split, 0..{CV_SPLITS - 1} are")
        self.cv = cv
        super().__init__(root, split, transform, **options)

    def find_samples(self) -> list[Sample]:
        if self.split == "trainval":
            return self.list_split("train") + self.list_split("val")
        if self.cv == 0 or self.split == "test":
            return self.list_split(self.split)
        val, train = self.list_split("val"), self.list_split("train")
        cities = [*sorted(set(map(city, val))), *sorted(set(map(city, train)))]
        first = self.cv * len(cities) // CV_SPLITS
        held_out = set(cities[first : first + len(set(map(city, val)))])
        return [sample for sample in val + train if (city(sample) in held_out) == (self.split == "val")]


def city(sample: Sample) -> str:
    """Return the city an image was taken in, which is its folder."""
    return sample.image.parent.name
