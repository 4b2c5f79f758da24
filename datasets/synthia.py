"""SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016)."""

from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.io import ImageReadMode, decode_png, read_file

from datasets.base import Layout, SegmentationDataset
from datasets.labels import SYNTHIA_TO_TRAIN_ID


class SYNTHIA(SegmentationDataset):
    """SYNTHIA, whose labels are PNGs of three 16-bit channels: class, instance, unused."""

    name = "synthia"
    splits = ("train", "val")
    layouts = (Layout("RGB/{split}", "GT/LABELS/{split}"),)
    table = SYNTHIA_TO_TRAIN_ID

    def open_label(self, path: Path) -> Image.Image:
        # Pillow keeps one byte of 16-bit colour, which is 0 for every class; torchvision keeps both.
        if not path.is_file():
            raise FileNotFoundError(f"label {path} does not exist")
        values = decode_png(read_file(str(path)), ImageReadMode.UNCHANGED)[0].numpy()
        return Image.fromarray(values.astype(np.uint16))
