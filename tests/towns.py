"""More datasets made of the toy town's Cityscapes, in their real layouts and encodings."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from datasets import DATASETS
from datasets.kitti import VAL_SPLITS
from datasets.labels import ID_TO_TRAIN_ID


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def write_camvid_label(source: Path, target: Path) -> None:
    """Write a Cityscapes label with CamVid's 11 classes, the others unlabelled (11)."""
    ids = np.full(256, 11, np.uint8)
    ids[DATASETS["camvid"].table[:11]] = range(11)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids[ID_TO_TRAIN_ID[np.asarray(Image.open(source))]]).save(target)


def add_datasets(town: Path, out: Path) -> Path:
    """Write OUT/kitti, camvid and folder, and coarse labels and video in OUT/cityscapes; return OUT.

    KITTI's numbers are the first of its split, video frames lie 2 before and after each training image.
    """
    for split in ("train", "val"):
        numbers = sorted(set(range(200)) - set(VAL_SPLITS[0])) if split == "train" else VAL_SPLITS[0]
        pairs = DATASETS["cityscapes"](town / "cityscapes", split, None).samples
        for (image, label, _), number in zip(pairs, numbers, strict=False):
            copy(image, out / f"kitti/training/image_2/{number:06d}_10.png")
            copy(label, out / f"kitti/training/semantic/{number:06d}_10.png")
            copy(image, out / f"folder/{split}/{number}.png")
            copy(image, out / f"camvid/{split}/{number:03d}.png")
            write_camvid_label(label, out / f"camvid/{split}annot/{number:03d}.png")
            if split == "train":
                city, sequence, frame = image.name.split("_")[:3]
                coarse = f"train_extra/{city}/extra{label.name.replace('gtFine', 'gtCoarse')}"
                extra = out / f"cityscapes/leftImg8bit_trainextra/leftImg8bit/train_extra/{city}"
                copy(image, extra / f"extra{image.name}")
                copy(label, out / "cityscapes/gtCoarse/gtCoarse" / coarse)
                video = out / f"cityscapes/leftImg8bit_sequence/train/{city}/{city}_{sequence}"
                for near in (int(frame) - 2, int(frame) + 2):
                    copy(image, Path(f"{video}_{near:06d}_leftImg8bit.png"))
    return out
