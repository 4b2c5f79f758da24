"""No images: stands where a dataset must be named and none is wanted."""

from datasets.base import Sample, SegmentationDataset


class Null(SegmentationDataset):
    """A dataset of nothing, which needs no files; --val_dataset null is training without validation."""

    name = "null"

    def find_samples(self) -> list[Sample]:
        return []
