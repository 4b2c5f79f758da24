"""IDD, the India Driving Dataset (Varma et al., WACV 2019, arXiv 1811.10200)."""

from datasets.base import Layout, SegmentationDataset


class IDD(SegmentationDataset):
    """IDD with PNG or JPEG images. Its labels hold Cityscapes' train ids, which its public tool makes."""

    name = "idd"
    root_variable = "IDD_DIR"
    layouts = (
        Layout(
            "leftImg8bit/{split}",
            "gtFine/{split}",
            ("_leftImg8bit.png", "_leftImg8bit.jpg"),
            "_gtFine_labelcsTrainIds.png",
        ),
    )
    published = {"train": 6993, "val": 981}
    published_is_sure = False
    download = (
        (r"(leftImg8bit/(train|val|test)/[^/]+/[^/]+_leftImg8bit\.(png|jpg))", r"\1"),
        (r"(gtFine/(train|val)/[^/]+/[^/]+_gtFine_labelcsTrainIds\.png)", r"\1"),
    )
