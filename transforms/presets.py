"""Which transforms in which order: geometry, colour, blur, tensor, normalization (DESIGN Method 4 and 7).

Each preset is called as `preset(image, label, centroid, rng)` with PIL images and returns tensors: image
float32 (3, H, W), label int64 (H, W) or None.
"""

import numpy as np
import torch

from transforms.joint import RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.photometric import BilateralBlur, ColorJitter, GaussianBlur, Normalize
from transforms.protocols import PROTOCOLS


class Preset:
    """Apply `joint` to image and label, `photometric` to the image, then normalize."""

    def __init__(self, joint=(), photometric=(), image_in: bool = False):
        self.joint, self.photometric, self.normalize = joint, photometric, Normalize(image_in)

    def __call__(self, image, label, centroid, rng):
        for transform in self.joint:
            image, label = transform(image, label, centroid, rng)
        for transform in self.photometric:
            image = transform(image, rng)
        return self.normalize(image), label and torch.from_numpy(np.array(label, np.int64))


def train(
    crop_size: int,
    *,
    scale_min: float = 0.5,
    scale_max: float = 2.0,
    pre_size: int | None = None,
    crop_nopad: bool = False,
    rrotate: float = 0,
    color_aug: float = 0.0,
    gblur: bool = False,
    bblur: bool = False,
    image_in: bool = False,
) -> Preset:
    """Return training's augmentation; the arguments are the flags of the same names, bblur replaces gblur."""
    joint = [RandomScaleCrop(crop_size, scale_min, scale_max, pre_size=pre_size, nopad=crop_nopad)]
    joint += [RandomHorizontalFlip()]
    joint += [RandomRotate(rrotate)] if rrotate else []
    photometric = [ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5)] if color_aug > 0 else []
    photometric += [BilateralBlur()] if bblur else [GaussianBlur()] if gblur else []
    return Preset(joint, photometric, image_in)


def val(image_in: bool = False, protocol: str = "full") -> Preset:
    """Return the whole image, normalized; `protocol` is one of transforms.protocols.PROTOCOLS."""
    return Preset(PROTOCOLS[protocol], image_in=image_in)


class Pair:
    """Return image float32 (2, 3, H, W): the photometric view, then the original, whole and normalized."""

    def __init__(self, view: Preset, original: Preset):
        self.view, self.original = view, original

    def __call__(self, image, label, centroid, rng):
        view, _ = self.view(image, None, None, rng)
        original, label = self.original(image, label, None, rng)
        return torch.stack((view, original)), label


def statistics(image_in: bool = False) -> Pair:
    """Return the pairs that the whitening statistics compare: strong colour jitter and blur against none."""
    strong = [ColorJitter(0.8, 0.8, 0.8, 0.3), GaussianBlur()]
    return Pair(Preset(photometric=strong, image_in=image_in), val(image_in))
