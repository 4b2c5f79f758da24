"""Layouts and encodings of the real datasets: the paths of the files and the class ids in the labels."""

import zlib
from collections.abc import Sequence

import numpy as np

from datasets.labels import CITYSCAPES_LABELS
from utils.classes import CITYSCAPES, IGNORE_LABEL

CITIES = {
    "train": "aachen bochum bremen cologne darmstadt dusseldorf erfurt hamburg hanover jena krefeld "
    "monchengladbach strasbourg stuttgart tubingen ulm weimar zurich".split(),
    "val": "frankfurt lindau munster".split(),
}


TRAIN_ID_DOMAINS = (
    *("acdc_fog", "acdc_night", "acdc_rain", "acdc_snow"),
    *("dark_zurich", "nighttime_driving", "idd"),
)
FOLDERS = {name: "acdc" for name in TRAIN_ID_DOMAINS if name.startswith("acdc_")}  # where it is not the name
NO_LABELS = {("dark_zurich", "train")}  # splits without labels
NO_IMAGES = {("nighttime_driving", "train")}  # splits that the dataset does not have


def encoding(ids: Sequence[int] | np.ndarray, void: int) -> np.ndarray:
    """Return a table (256,) from train id to class id; every train id that `ids` lacks becomes `void`."""
    table = np.full(256, void, np.uint8)
    table[: len(ids)] = ids
    return table


ENCODINGS = {  # void is static, static, void, 255 and unlabeled
    "cityscapes": encoding(CITYSCAPES.ids, 4),
    "gtav": encoding(CITYSCAPES.ids, 4),
    "synthia": encoding((3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11), 0),
    "bdd100k": encoding(range(19), IGNORE_LABEL),
    "foggy_cityscapes": encoding(CITYSCAPES.ids, 4),
    **{name: encoding(range(19), IGNORE_LABEL) for name in TRAIN_ID_DOMAINS},
    "mapillary": encoding((13, 15, 17, 6, 3, 45, 48, 50, 30, 29, 27, 19, 20, 55, 61, 54, 58, 57, 52), 65),
}
CITYSCAPES_ID_PALETTE = np.zeros((256, 3), np.uint8)
for entry in CITYSCAPES_LABELS:
    if entry.id >= 0:
        CITYSCAPES_ID_PALETTE[entry.id] = entry.color


def paths(domain: str, split: str, index: int) -> tuple[str, str]:
    """Return the paths of an image and its label in the domain's root; `split` is "train" or "val".

    The image of Foggy Cityscapes is that of the densest fog.
    """
    if domain == "cityscapes":
        city = CITIES[split][index % len(CITIES[split])]
        name = f"{split}/{city}/{city}_{index:06d}_000019_"
        return (
            f"leftImg8bit_trainvaltest/leftImg8bit/{name}leftImg8bit.png",
            f"gtFine_trainvaltest/gtFine/{name}gtFine_labelIds.png",
        )
    if domain == "gtav":
        name = f"{'valid' if split == 'val' else split}/{index // 50 + 1:02d}/{index + 1:05d}.png"
        return f"images/{name}", f"labels/{name}"
    if domain == "synthia":
        return f"RGB/{split}/{index:07d}.png", f"GT/LABELS/{split}/{index:07d}.png"
    if domain == "bdd100k":
        name = f"{split}/{index:08x}-{zlib.crc32(b'%d' % index):08x}"
        return f"images/{name}.jpg", f"labels/{name}_train_id.png"
    if domain.startswith("acdc_"):
        condition = domain.removeprefix("acdc_")
        name = f"{condition}/{split}/GOPR{index // 50:04d}/{condition}_{split}_{index + 1:06d}_"
        image = f"rgb_anon_trainvaltest/rgb_anon/{name}rgb_anon.png"
        return image, f"gt_trainval/gt/{name}gt_labelTrainIds.png"
    if domain == "dark_zurich":
        name = f"{split}/night/GOPR{index // 50:04d}/GOPR{index // 50:04d}_frame_{index + 1:06d}_"
        return f"rgb_anon/{name}rgb_anon.png", f"gt/{name}gt_labelTrainIds.png"
    if domain == "nighttime_driving":
        name = f"test/night/{index:04d}_"
        folder = "gtCoarse_daytime_trainvaltest"
        return f"leftImg8bit/{name}leftImg8bit.png", f"{folder}/{name}gtCoarse_labelTrainIds.png"
    if domain == "foggy_cityscapes":
        image, label = paths("cityscapes", split, index)
        image = image.replace("trainvaltest/leftImg8bit/", "trainvaltest_foggy/leftImg8bit_foggy/")
        return image.replace("leftImg8bit.png", "leftImg8bit_foggy_beta_0.02.png"), label
    if domain == "idd":
        name = f"{split}/{index // 50:03d}/frame{index:04d}_"
        return f"leftImg8bit/{name}leftImg8bit.png", f"gtFine/{name}gtFine_labelcsTrainIds.png"
    folder = "training" if split == "train" else "validation"
    return f"{folder}/images/toy_{index:06d}.jpg", f"{folder}/labels/toy_{index:06d}.png"
