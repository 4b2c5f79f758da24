"""Small datasets on disk for the tests of this folder."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIZE, TRAIN, VAL = (48, 96), 5, 3  # the toy town of the fixture `toy`


def no_transform(image, label, centroid, rng):
    """Return the RGB image as float (3, H, W) and the label as int64 (H, W), unchanged."""
    image = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return image, None if label is None else torch.from_numpy(np.array(label, np.int64))


def save(path: Path, values) -> None:
    """Write values (H, W) or (H, W, 3), 0..255, as the image file `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def write_camvid(root: Path, labels: list, split: str = "train") -> Path:
    """Write one pair per label of class indices (H, W); an image's red channel is its label."""
    for number, label in enumerate(labels):
        label = np.asarray(label, np.uint8)
        save(root / f"{split}/{number:03}.png", np.stack([label, 0 * label, 0 * label], -1))
        save(root / f"{split}annot/{number:03}.png", label)
    return root
