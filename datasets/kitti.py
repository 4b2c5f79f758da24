"""KITTI's semantic benchmark (Alhaija et al., IJCV 2018, arXiv 1708.01566)."""

from datasets.base import Layout, Sample, SegmentationDataset
from datasets.labels import ID_TO_TRAIN_ID
from utils.errors import UserError

# fmt: off
VAL_SPLITS = (  # image numbers
    (1, 5, 11, 29, 35, 49, 57, 68, 72, 82, 93, 115, 119, 130, 145, 154, 156, 167, 169, 189, 198),
    (0, 12, 24, 31, 42, 50, 63, 71, 84, 96, 101, 112, 121, 133, 141, 155, 164, 171, 187, 191, 197),
    (3, 6, 13, 21, 41, 54, 61, 73, 88, 91, 110, 121, 126, 131, 142, 149, 150, 163, 173, 183, 199),
)
# fmt: on


class KITTI(SegmentationDataset):
    """KITTI, 200 labelled images in Cityscapes ids; `cv` chooses which 21 of them are the val split."""

    name = "kitti"
    root_variable = "KITTI_DIR"
    splits = ("train", "val", "test", "trainval")
    folders = {"train": "training", "val": "training", "trainval": "training", "test": "testing"}
    layouts = tuple(
        Layout(root + "{split}/image_2", root + "{split}/semantic", "_10.png", "_10.png")
        for root in ("", "data_semantics/")
    )
    table = ID_TO_TRAIN_ID
    cv_splits = len(VAL_SPLITS)
    published = {"train": 179, "val": 21, "test": 200}
    download = ((r"((training|testing)/(image_2|semantic)/\d+_10\.png)", r"\1"),)

    def find_samples(self) -> list[Sample]:
        samples = self.list_split(self.split)
        if self.split in ("test", "trainval"):
            return samples
        held_out = VAL_SPLITS[self.cv]
        return [sample for sample in samples if (self.number(sample) in held_out) == (self.split == "val")]

    def number(self, sample: Sample) -> int:
        """Return the number in an image's name."""
        if not self.plain_name(sample).isdecimal():
            raise UserError(f"an image of kitti is called NNNNNN_10.png, this one is not: {sample.image}")
        return int(self.plain_name(sample))
