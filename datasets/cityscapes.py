"""Cityscapes, fine and coarse annotations and video (Cordts et al., CVPR 2016, arXiv 1604.01685)."""

from datasets.base import Layout, Sample, SegmentationDataset, found_in
from datasets.labels import ID_TO_TRAIN_ID

IMAGE_SUFFIX = "_leftImg8bit.png"
FINE, COARSE = (
    tuple(
        Layout(f"{images}/{{split}}", f"{labels}/{{split}}", IMAGE_SUFFIX, f"_{kind}_labelIds.png")
        for images, labels in ((f"leftImg8bit_{release}/leftImg8bit", folder), ("leftImg8bit", kind))
    )
    for kind, release, folder in (
        ("gtFine", "trainvaltest", "gtFine_trainvaltest/gtFine"),
        ("gtCoarse", "trainextra", "gtCoarse/gtCoarse"),
    )
)
VIDEO = "leftImg8bit_sequence_trainvaltest/leftImg8bit_sequence", "leftImg8bit_sequence"


class Cityscapes(SegmentationDataset):
    """Cityscapes with labelIds PNGs; the split train_extra is the coarse set.

    `cv` 0 is the official split. 1 and 2 redistribute its train and val cities: with the val cities first,
    both sorted, and n cities in all, split k validates on as many cities as val has, from number k * n // 3
    on. `max_skip` N > 0 adds to each image of train and trainval the video frames N before and N after it,
    with that image's label, as frames of their own have none; frames that are not there are left out.
    """

    name = "cityscapes"
    splits = ("train", "val", "test", "trainval", "train_extra")
    layouts = FINE
    table = ID_TO_TRAIN_ID
    cv_splits = 3

    def __init__(self, root, split, transform, *, max_skip: int = 0, **options):
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
            wanted = " or ".join(VIDEO)
            raise FileNotFoundError(f"no video frames: expected {wanted}; found: {found_in(self.root)}")
        frames = []
        for sample in samples:
            place, _, frame = self.name_of(sample).rpartition("_")
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
