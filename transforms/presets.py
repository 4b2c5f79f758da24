"""Which transforms in which order: geometry, colour, blur, tensor, normalization (DESIGN Method 4 and 7).

Each preset is called as `preset(image, label, centroid, rng)` with PIL images and returns tensors: image
float32 (3, H, W), label int64 (H, W) or None; with photometric augmentation left to the device, image
uint8 and thirdly what the device shall do with it.
"""

import numpy as np
import torch

from transforms.joint import RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.photometric import BilateralBlur, ColorJitter, GaussianBlur, Normalize, Photometric, to_tensor
from transforms.protocols import PROTOCOLS, pixels


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


class DevicePreset:
    """Apply `joint` to image and label and draw what `photometric` shall do to the batch on the device."""

    def __init__(self, joint, photometric: Photometric):
        self.joint, self.photometric = joint, photometric

    def __call__(self, image, label, centroid, rng):
        for transform in self.joint:
            image, label = transform(image, label, centroid, rng)
        drawn = self.photometric.draw(rng)
        return to_tensor(image), label and torch.from_numpy(np.array(label, np.int64)), drawn


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
    aug_device: str = "cpu",
) -> Preset | DevicePreset:
    """Return training's augmentation; the arguments are the flags of the same names, bblur replaces gblur.

    ValueError for bblur with aug_device "gpu", which it has no form for.
    """
    joint = [RandomScaleCrop(crop_size, scale_min, scale_max, pre_size=pre_size, nopad=crop_nopad)]
    joint += [RandomHorizontalFlip()]
    joint += [RandomRotate(rrotate)] if rrotate else []
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5) if color_aug > 0 else None
    blur = BilateralBlur() if bblur else GaussianBlur() if gblur else None
    if aug_device == "cpu":
        return Preset(joint, [transform for transform in (jitter, blur) if transform], image_in)
    if bblur:
        raise ValueError("--bblur runs on the CPU alone; leave out --aug_device gpu")
    return DevicePreset(joint, Photometric(jitter, blur, image_in))


def val(image_in: bool = False, protocol: str = "full") -> Preset:
    """Return the whole image, normalized; `protocol` is one of transforms.protocols.PROTOCOLS."""
    return Preset(PROTOCOLS[protocol], image_in=image_in)


class Pair:
    """Return image float32 (2, 3, H, W): the photometric view, then the original, whole and normalized."""

    def __init__(self, view: Preset, original: Preset):
        self.view, self.original = view, original

    def __call__(self, image, label, centroid, rng):
        image = pixels(image)
        view, _ = self.view(image, None, None, rng)
        original, label = self.original(image, label, None, rng)
        return torch.stack((view, original)), label


def statistics(image_in: bool = False) -> Pair:
    """Return the pairs that the whitening statistics compare: strong colour jitter and blur against none."""
    strong = [ColorJitter(0.8, 0.8, 0.8, 0.3), GaussianBlur()]
    return Pair(Preset(photometric=strong, image_in=image_in), val(image_in))
