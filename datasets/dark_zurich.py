"""Dark Zurich at night (Sakaridis, Dai, Van Gool, ICCV 2019, arXiv 1901.05946)."""

from datasets.base import Layout, Sample, SegmentationDataset


class DarkZurich(SegmentationDataset):
    """The night images of Dark Zurich, 1920x1080 px. Labels hold train ids; train and test have none.

    The day counterparts in `{split}_ref` are not part of a split. The name of an image keeps its suffix, as
    that of ACDC does.
    """

    name = "dark_zurich"
    root_variable = "DARK_ZURICH_DIR"
    unlabelled_splits = ("train", "test")
    layouts = (
        Layout("rgb_anon/{split}/night", "gt/{split}/night", "_rgb_anon.png", "_gt_labelTrainIds.png"),
    )
    published = {"train": 2416, "val": 50, "test": 151}
    published_is_sure = False
    download = (
        (r"(rgb_anon/(train|val|test)/night/[^/]+/[^/]+_rgb_anon\.png)", r"\1"),
        (r"(gt/val/night/[^/]+/[^/]+_gt_labelTrainIds\.png)", r"\1"),
    )

    def plain_name(self, sample: Sample) -> str:
        return sample.image.stem
