"""Nighttime Driving, its test set (Dai, Van Gool, ITSC 2018, arXiv 1810.02575)."""

from datasets.base import Layout, SegmentationDataset


class NighttimeDriving(SegmentationDataset):
    """The 50 labelled images of Nighttime Driving, 1920x1080 px, which are both val and test.

    Labels are coarse and hold train ids.
    """

    name = "nighttime_driving"
    root_variable = "NIGHTTIME_DRIVING_DIR"
    splits = ("val", "test")
    folders = {"val": "test"}
    layouts = (
        Layout(
            "leftImg8bit/{split}/night",
            "gtCoarse_daytime_trainvaltest/{split}/night",
            "_leftImg8bit.png",
            "_gtCoarse_labelTrainIds.png",
        ),
    )
    published = {"val": 50, "test": 50}
    published_is_sure = False
    download = (
        (r"(leftImg8bit/test/night/[^/]+_leftImg8bit\.png)", r"\1"),
        (r"(gtCoarse_daytime_trainvaltest/test/night/[^/]+_gtCoarse_labelTrainIds\.png)", r"\1"),
    )
