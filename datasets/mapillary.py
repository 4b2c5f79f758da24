"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import MAPILLARY_TO_TRAIN_ID


class Mapillary(SegmentationDataset):
    """Mapillary Vistas, 66 classes merged into Cityscapes' 19; images differ in size."""

    name = "mapillary"
    splits = ("train", "val")
    folders = {"train": "training", "val": "validation"}
    layouts = (Layout("{split}/images", "{split}/labels", ".jpg"),)
    table = MAPILLARY_TO_TRAIN_ID
