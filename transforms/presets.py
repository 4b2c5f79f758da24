"""Which transforms in which order: geometry, colour, blur, tensor, normalization (DESIGN Method 4 and 7).

Each preset is called as `preset(image, label, centroid, rng)` with PIL images, or stand-ins that are
decoded where used, and returns tensors: image float32 (3, H, W), label int64 (H, W) or None; with photometric
augmentation left to the device, image uint8 and thirdly what the device shall do with it.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transforms.joint import RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.photometric import BilateralBlur, ColorJitter, GaussianBlur, Grayscale, Normalize, Photometric
from transforms.pil import pixels, to_tensor
from transforms.protocols import PROTOCOLS
from transforms.similarity import draw_view, invert, similarity_matrix, warp


class Preset:
    """Apply `joint` to image and label, `photometric` to the image, then normalize."""

    def __init__(self, joint, photometric=(), image_in: bool = False):
        self.joint, self.photometric, self.normalize = joint, photometric, Normalize(image_in)

    def __call__(self, image, label, centroid, rng):
        for transform in self.joint:
            image, label = transform(image, label, centroid, rng)
        image = image.float()
        for transform in self.photometric:
            image = transform(image, rng)
        return self.normalize(image), None if label is None else label.long()


class DevicePreset:
    """Apply `joint` to image and label and draw what `photometric` shall do to the batch on the device."""

    def __init__(self, joint, photometric: Photometric):
        self.joint, self.photometric = joint, photometric

    def __call__(self, image, label, centroid, rng):
        for transform in self.joint:
            image, label = transform(image, label, centroid, rng)
        drawn = self.photometric.draw(rng)
        return image, None if label is None else label.long(), drawn


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
        image = pixels(image)  # decoded once
        view, _ = self.view(image, None, None, rng)
        original, label = self.original(image, label, None, rng)
        return torch.stack((view, original)), label


def statistics(image_in: bool = False) -> Pair:
    """Return the pairs that the whitening statistics compare: strong colour jitter and blur against none."""
    strong = [ColorJitter(0.8, 0.8, 0.8, 0.3), GaussianBlur()]
    return Pair(Preset(PROTOCOLS["full"], strong, image_in), val(image_in))


class TargetPreset:
    """Make the views of an unlabelled image that student and teacher compare (arXiv 2105.00097).

    The image is scaled to fit into `size` (height, width; even numbers of px), then by a factor uniform in
    [1.0, 1.1], cropped to `size` or padded, centred, and mirrored with probability 0.5. All views share this
    reference; each is mirrored or not and, but for view 0, a crop of it resized back (`draw_view`).
    """

    def __init__(self, size: tuple[int, int], noise=(), image_in: bool = False):
        self.size, self.noise, self.normalize = size, noise, Normalize(image_in)

    def reference(self, image, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the image as all views share it, uint8 (3, H, W), and where it is no padding, (H, W)."""
        height, width = self.size
        factor = min(height / image.height, width / image.width) * rng.uniform(1.0, 1.1)
        scaled = [max(1, round(factor * side)) for side in (image.height, image.width)]
        # >= 0: a crop at a uniform place, < 0: centred padding
        top, left = (
            int(rng.integers(room + 1)) if room >= 0 else room // 2
            for room in (scaled[0] - height, scaled[1] - width)
        )
        image = pixels(image).resize(scaled[::-1], Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + width, top + height))  # black where it reaches outside
        valid = torch.zeros(self.size, dtype=torch.bool)
        valid[max(0, -top) : scaled[0] - top, max(0, -left) : scaled[1] - left] = True
        return RandomHorizontalFlip()(to_tensor(image), valid, None, rng)

    def view(self, reference: Tensor, valid: Tensor, number: int, rng: np.random.Generator) -> dict:
        """Draw view `number` of a reference; see datasets.views.TargetViews for what is returned."""
        matrix = similarity_matrix(draw_view(self.size, rng, zoom=number > 0), self.size)
        inverse = invert(matrix)
        warped, _ = warp(reference[None].float(), inverse[None])
        seen, inside = warp(valid[None, None].float(), inverse[None], "nearest")
        clean = warped[0].round_()
        noisy = clean.clone()
        for transform in self.noise:
            noisy = transform(noisy, rng)
        return {
            "student": self.normalize(noisy),
            "teacher": self.normalize(clean),
            "matrix": matrix.float(),
            "inverse": inverse.float(),
            "valid": (seen[0, 0] > 0) & inside[0],
        }


def target_views(size: tuple[int, int], image_in: bool = False) -> TargetPreset:
    """Return what self-training compares: blur, jitter and loss of colour for the student alone."""
    noise = [GaussianBlur(0.1, 2.0), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), Grayscale(0.2)]
    return TargetPreset(size, noise, image_in)
