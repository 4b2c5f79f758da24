"""Cityscapes, fine and coarse annotations and video (Cordts et al., CVPR 2016, arXiv 1604.01685)."""

from pathlib import Path
from typing import Any

from datasets.base import Layout, Sample, SegmentationDataset, Transform
from datasets.labels import ID_TO_TRAIN_ID
from datasets.walk import found_in
from utils.errors import MissingFile

IMAGE_SUFFIX = "_leftImg8bit.png"
FINE = (
    Layout(
        "leftImg8bit_trainvaltest/leftImg8bit/{split}",
        "gtFine_trainvaltest/gtFine/{split}",
        IMAGE_SUFFIX,
        "_gtFine_labelIds.png",
    ),
    Layout("leftImg8bit/{split}", "gtFine/{split}", IMAGE_SUFFIX, "_gtFine_labelIds.png"),
)
COARSE = (
    Layout(
        "leftImg8bit_trainextra/leftImg8bit/{split}",
        "gtCoarse/gtCoarse/{split}",
        IMAGE_SUFFIX,
        "_gtCoarse_labelIds.png",
    ),
    Layout("leftImg8bit/{split}", "gtCoarse/{split}", IMAGE_SUFFIX, "_gtCoarse_labelIds.png"),
)
CITY = r"/[^/]+/[^/]+"  # CITY/FILE, in the patterns of `download`
VIDEO = "leftImg8bit_sequence_trainvaltest/leftImg8bit_sequence", "leftImg8bit_sequence"


class Cityscapes(SegmentationDataset):
    """Cityscapes with labelIds PNGs; the split train_extra is the coarse set.

    `cv` 0 is the official split. 1 and 2 redistribute the cities of train and val. The list of n cities has
    the val cities first, then those of train, both sorted. Split k validates on as many cities as val has,
    starting at number k * n // 3 of the list.

    `max_skip` N > 0 adds to each image of train and trainval the video frames N before and N after it. Frames
    have no label and get that of the image. Frames that are not there are left out.
    """

    name = "cityscapes"
    root_variable = "CITYSCAPES_DIR"
    splits = ("train", "val", "test", "trainval", "train_extra")
    layouts = FINE
    table = ID_TO_TRAIN_ID
    cv_splits = 3
    published = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    download = (
        (
            rf"leftImg8bit/((train|val|test){CITY}_leftImg8bit\.png)",
            r"leftImg8bit_trainvaltest/leftImg8bit/\1",
        ),
        (rf"gtFine/((train|val|test){CITY}_gtFine_labelIds\.png)", r"gtFine_trainvaltest/gtFine/\1"),
        (rf"leftImg8bit/(train_extra{CITY}_leftImg8bit\.png)", r"leftImg8bit_trainextra/leftImg8bit/\1"),
        (rf"gtCoarse/(train_extra{CITY}_gtCoarse_labelIds\.png)", r"gtCoarse/gtCoarse/\1"),
        (
            rf"leftImg8bit_sequence/((train|val|test){CITY}_leftImg8bit\.png)",
            r"leftImg8bit_sequence_trainvaltest/leftImg8bit_sequence/\1",
        ),
    )

    def __init__(
        self, root: str | Path, split: str, transform: Transform | None, *, max_skip: int = 0, **options: Any
    ):
        self.max_skip = max_skip if split in ("train", "trainval") else 0
        super().__init__(root, split, transform, **options)

    def find_samples(self) -> list[Sample]:
        if self.split == "train_extra":
            return self.list_split(self.split, COARSE)
        samples = self._annotated()
        return samples + (self._frames(samples) if self.max_skip else [])

    def _annotated(self) -> list[Sample]:
        if self.split == "trainval":
            return self.list_split("train") + self.list_split("val")
        if self.cv == 0 or self.split == "test":
            return self.list_split(self.split)
        val, train = self.list_split("val"), self.list_split("train")
        cities = [*sorted(set(map(city, val))), *sorted(set(map(city, train)))]
        first = self.cv * len(cities) // self.cv_splits
        held_out = set(cities[first : first + len(set(map(city, val)))])
        return [sample for sample in val + train if (city(sample) in held_out) == (self.split == "val")]

    def _frames(self, samples: list[Sample]) -> list[Sample]:
        """Return the video frames `max_skip` before and after each of `samples`, CITY_SEQUENCE_FRAME_..."""
        video = next((self.root / folder for folder in VIDEO if (self.root / folder).is_dir()), None)
        if video is None:
            expected = " or ".join(VIDEO)
            raise MissingFile(f"no video frames: expected {expected}; found: {found_in(self.root)}")
        frames = []
        for sample in samples:
            place, _, frame = self.plain_name(sample).rpartition("_")
            split = sample.image.parts[-3]
            for number in (int(frame) - self.max_skip, int(frame) + self.max_skip):
                path = video / split / city(sample) / f"{place}_{number:06d}{IMAGE_SUFFIX}"
                frames.append(Sample(path, sample.label))
        missing = {frame.image for frame in frames if not frame.image.is_file()}
        self.skip(sorted(missing), "video frames that are not there")
        return [frame for frame in frames if frame.image not in missing]


def city(sample: Sample) -> str:
    """Return the city an image was taken in, which is its folder."""
    return sample.image.parent.name
