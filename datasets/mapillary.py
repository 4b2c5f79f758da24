"""Mapillary Vistas 1.2 (Neuhold et al., ICCV 2017)."""

import numpy as np
from PIL import Image

from datasets.base import Layout, SegmentationDataset
from datasets.labels import lookup_table
from utils.classes import IGNORE_LABEL
from utils.images import ABSENT, COLOURED, palette, palette_values

# fmt: off
COLORS = (  # of the 66 label values, as RRGGBB
    "a52a2a 00c000 c4c4c4 be9999 b4a5b4 5a7896 66669c 8040ff 8c8cc8 aaaaaa faaaa0 606060 e6968c 804080 "
    "6e6e6e f423e8 966464 464646 96785a dc143c ff0000 ff0064 ff00c8 c88080 ffffff 40aa40 e6a032 4682b4 "
    "beffff 98fb98 6b8e23 00aa1e ffff80 fa001e 648cb4 dcdcdc dc8080 de2828 64aa1e 282828 212121 6480a0 "
    "8e0000 466496 d2aa64 999999 808080 000050 faaa1e c0c0c0 dcdc00 8c8c14 770b20 9600ff 003c64 00008e "
    "00005a 0000e6 005064 804040 00006e 000046 0000c0 202020 780a0a 000000"
).split()
SCORED = {  # of 66 label values
    2: 1, 3: 4, 6: 3, 13: 0, 15: 1, 17: 2, 19: 11, 20: 12, 21: 12, 22: 12, 24: 0, 27: 10, 29: 9,
    30: 8, 41: 0, 45: 5, 47: 5, 48: 6, 50: 7, 52: 18, 54: 15, 55: 13, 57: 17, 58: 16, 61: 14,
}
# fmt: on


class Mapillary(SegmentationDataset):
    """Mapillary Vistas, with 66 label values merged into Cityscapes' 19 classes. Images differ in size.

    Labels are palette images whose index is the label value. Where a program has sorted a palette of Vistas'
    colours anew, the colour decides; a colour of none of them is an error where it is used.
    """

    name = "mapillary"
    root_variable = "MAPILLARY_DIR"
    splits = ("train", "val")
    folders = {"train": "training", "val": "validation"}
    layouts = (Layout("{split}/images", "{split}/labels", ".jpg"),)
    table = lookup_table(dict.fromkeys(range(66), IGNORE_LABEL) | SCORED)
    palette_ids = True
    published = {"train": 18000, "val": 2000}
    download = (
        (r"((training|validation)/images/[^/]+\.jpg)", r"\1"),
        (r"(training|validation)/(?:v1\.2/)?labels/([^/]+\.png)", r"\1/labels/\2"),
    )

    def palette_values(self, image: Image.Image) -> np.ndarray:
        colors = [color.tobytes().hex() for color in palette(image)]
        first = colors[: len(COLORS)]
        known = sum(color in COLORS for color in first)
        sorted_anew = first != COLORS[: len(first)] and known >= len(first) / 2
        if not sorted_anew or COLOURED not in palette_values(image):
            return super().palette_values(image)
        values = np.full(256, ABSENT)
        values[: len(colors)] = [COLORS.index(color) if color in COLORS else COLOURED for color in colors]
        return values
