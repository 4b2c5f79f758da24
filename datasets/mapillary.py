"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import lookup_table
from utils.classes import IGNORE_LABEL

# fmt: off
SCORED = {  # of 66 label values
    2: 1, 3: 4, 6: 3, 13: 0, 15: 1, 17: 2, 19: 11, 20: 12, 21: 12, 22: 12, 24: 0, 27: 10, 29: 9,
    30: 8, 41: 0, 45: 5, 47: 5, 48: 6, 50: 7, 52: 18, 54: 15, 55: 13, 57: 17, 58: 16, 61: 14,
}
# fmt: on


class Mapillary(SegmentationDataset):
    """Mapillary Vistas, with 66 label values merged into Cityscapes' 19 classes. Images differ in size."""

    name = "mapillary"
    root_variable = "MAPILLARY_DIR"
    splits = ("train", "val")
    folders = {"train": "training", "val": "validation"}
    layouts = (Layout("{split}/images", "{split}/labels", ".jpg"),)
    table = lookup_table(dict.fromkeys(range(66), IGNORE_LABEL) | SCORED)
    published = {"train": 18000, "val": 2000}
    download = (
        (r"((training|validation)/images/[^/]+\.jpg)", r"\1"),
        (r"(training|validation)/(?:v1\.2/)?labels/([^/]+\.png)", r"\1/labels/\2"),
    )
