"""The dataset without images, for where the command line wants a name and no dataset is wanted."""

from datasets.base import Sample, SegmentationDataset


class Null(SegmentationDataset):
    """No images, and no files are needed. --val_dataset null trains without validation."""

    name = "null"
    classes = None

    def find_samples(self) -> list[Sample]:
        return []
