"""Which transforms run in which order: geometry, colour, blur, normalization.

Each preset is called as `preset(image, label, centroid, rng)` with PIL images or stand-ins, which are decoded
where they are used. It returns image float32 (3, H, W) and label int64 (H, W) or None. Presets for training
may leave work to the device; then both are uint8.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transforms.joint import JointTransform, Pixel, RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.photometric import (
    BilateralBlur,
    ColorJitter,
    Drawn,
    GaussianBlur,
    Grayscale,
    Operation,
    Photometric,
    PillowBlur,
)
from transforms.pil import Croppable, pixels, to_tensor
from transforms.protocols import PROTOCOLS
from transforms.similarity import draw_view, invert, similarity_matrix, warp
from utils.errors import UserError
from utils.pixels import IMAGENET, Colors

Transform = Callable[..., tuple]


class Preset:
    """Apply `joint` to image and label, then `photometric` to the image."""

    def __init__(self, joint: Sequence[JointTransform], photometric: Photometric):
        self.joint, self.photometric = joint, photometric

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        values, train_ids = _apply(self.joint, image, label, centroid, rng)
        normalized = self.photometric.apply(values.float(), self.photometric.draw(rng))
        return normalized, None if train_ids is None else train_ids.long()


class DevicePreset:
    """Apply `joint` to image and label and draw what `photometric` will do to the batch on the device.

    Image and label that are returned are uint8; what was drawn for them comes third.
    """

    def __init__(self, joint: Sequence[JointTransform], photometric: Photometric):
        self.joint, self.photometric = joint, photometric

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None, Mapping[str, Drawn]]:
        values, train_ids = _apply(self.joint, image, label, centroid, rng)
        return values, train_ids, self.photometric.draw(rng)


class LevelsPreset(Preset):
    """The same as `Preset`, except that the image is not normalized yet: image and label are uint8.

    They are a quarter and an eighth of the bytes. Grey levels that an operation leaves between whole numbers
    are rounded. `self.photometric(images)` normalizes a batch, on any device to the same bits.
    """

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        values, train_ids = _apply(self.joint, image, label, centroid, rng)
        if self.photometric.operations:
            values = self.photometric.adjust(values.float(), self.photometric.draw(rng))
            values = values.round_().clamp_(0, 255).byte()
        return values, train_ids


def levels(preset: Transform) -> Transform:
    """Return `preset` as one whose images are normalized on the device, if that gives the same images."""
    if type(preset) is Preset and not preset.photometric.normalize.per_image:
        return LevelsPreset(preset.joint, preset.photometric)
    return preset


def _apply(
    joint: Sequence[JointTransform],
    image: Croppable,
    label: Croppable | None,
    centroid: Pixel | None,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Return image (3, H, W) and label (H, W) or None, both uint8, after all transforms."""
    first, *others = joint
    values, train_ids = first(image, label, centroid, rng)
    for transform in others:
        values, train_ids = transform(values, train_ids, centroid, rng)
    return values, train_ids


def operations(
    color_aug: float, gblur: bool, bblur: bool, jitter: tuple[float, float] = (0.4, 0.1)
) -> list[Operation]:
    """Return the operations of training in the order of application; bblur replaces gblur.

    `jitter` has the strength of brightness, contrast and saturation, and the largest shift of the hue.
    """
    strength, hue = jitter
    table = (
        (color_aug > 0, ColorJitter(strength, strength, strength, hue, p=0.5)),
        (bblur, BilateralBlur()),
        (gblur and not bblur, GaussianBlur()),
    )
    return [operation for wanted, operation in table if wanted]


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
    jitter: tuple[float, float] = (0.4, 0.1),
    image_in: bool = False,
    colors: Colors = IMAGENET,
    aug_device: str = "cpu",
) -> Preset | DevicePreset:
    """Return the augmentation of training; the arguments are the flags of the same names.

    `colors` normalize the images. `jitter` is described at `operations`.

    UserError for bblur with aug_device "gpu", because that blur would wait for the device.
    """
    joint: list[JointTransform] = [
        RandomScaleCrop(crop_size, scale_min, scale_max, pre_size=pre_size, nopad=crop_nopad),
        RandomHorizontalFlip(),
    ]
    if rrotate:
        joint.append(RandomRotate(rrotate))
    photometric = Photometric(operations(color_aug, gblur, bblur, jitter), image_in, colors)
    if aug_device == "cpu":
        return Preset(joint, photometric)
    if bblur:
        raise UserError("--bblur runs on the CPU only; leave out --aug_device gpu")
    return DevicePreset(joint, photometric)


def val(image_in: bool = False, protocol: str = "full") -> Preset:
    """Return the whole image, normalized; `protocol` is one of transforms.protocols.PROTOCOLS."""
    return Preset(PROTOCOLS[protocol], Photometric(per_image=image_in))


class Pair:
    """Return image float32 (2, 3, H, W): the photometric view, then the original, whole and normalized."""

    def __init__(self, view: Preset, original: Preset):
        self.view, self.original = view, original

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        whole = pixels(image)  # decoded once
        view, _ = self.view(whole, None, None, rng)
        original, train_ids = self.original(whole, label, None, rng)
        return torch.stack((view, original)), train_ids


def statistics(image_in: bool = False, aug_device: str = "cpu") -> Pair | DevicePreset:
    """Return the pairs that the whitening statistics compare: strong colour jitter and blur against none.

    With aug_device "gpu", `photometric` makes both from the whole image: with what was drawn, and without.
    """
    strong = Photometric([ColorJitter(0.8, 0.8, 0.8, 0.3), GaussianBlur()], image_in)
    if aug_device == "gpu":
        return DevicePreset(PROTOCOLS["full"], strong)
    return Pair(Preset(PROTOCOLS["full"], strong), val(image_in))


class TargetPreset:
    """Make the views of an unlabelled image that student and teacher compare (arXiv 2105.00097).

    All views share a reference. For it the image is resized to `size` (height, width; even numbers of px),
    whatever its shape, then by a factor uniform in [1.0, 1.1], cropped to `size` at a uniform position and
    mirrored with probability 0.5. A view is the reference mirrored with probability 0.5 (`draw_view`); all
    views except view 0 are also cropped and resized back. All resizing is bilinear. Only what the student
    sees gets the `noise`. `scale` replaces [1.0, 1.1]; `zoom` has the least and largest share of a crop.
    """

    def __init__(
        self,
        size: tuple[int, int],
        noise: Photometric,
        scale: tuple[float, float] = (1.0, 1.1),
        zoom: tuple[float, float] = (0.5, 1.0),
    ):
        self.size, self.noise, self.scale, self.zoom = size, noise, scale, zoom

    def reference(self, image: Croppable, rng: np.random.Generator) -> Tensor:
        """Return the reference of all views, uint8 (3, H, W)."""
        height, width = self.size
        factor = rng.uniform(*self.scale)
        scaled_h, scaled_w = int(factor * height), int(factor * width)
        top, left = (int(rng.integers(room + 1)) for room in (scaled_h - height, scaled_w - width))
        # NOTE(published): resized twice; tests/golden/test_f10_transforms.py
        fitted = pixels(image).resize((width, height), Image.Resampling.BILINEAR)
        scaled = fitted.resize((scaled_w, scaled_h), Image.Resampling.BILINEAR)
        crop = to_tensor(scaled.crop((left, top, left + width, top + height)))
        return crop.flip(-1) if RandomHorizontalFlip().draw(rng) else crop

    def view(self, reference: Tensor, number: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw view `number` of a reference; datasets.views.TargetViews describes the result."""
        matrix = similarity_matrix(draw_view(self.size, rng, zoom=number > 0, shares=self.zoom), self.size)
        inverse = invert(matrix)
        warped, inside = warp(reference[None].float(), inverse[None])
        clean = warped[0].round_()
        return {
            "student": self.noise.apply(clean.clone(), self.noise.draw(rng)),
            "teacher": self.noise.normalize(clean),
            "matrix": matrix.float(),
            "inverse": inverse.float(),
            "valid": inside[0],
        }


def target_views(
    size: tuple[int, int],
    image_in: bool = False,
    *,
    scale: tuple[float, float] = (1.0, 1.1),
    zoom: tuple[float, float] = (0.5, 1.0),
    blur: tuple[float, float] = (0.1, 2.0),
    jitter: tuple[float, float] = (0.4, 0.1),
    gray: float = 0.2,
) -> TargetPreset:
    """Return the views of self-training; only the student's are blurred, jittered or made grey.

    The radius of Pillow's blur is uniform in `blur` px. `jitter` is described at `operations`, `gray` is the
    probability of losing the colours.
    """
    strength, hue = jitter
    noise = [PillowBlur(*blur), ColorJitter(strength, strength, strength, hue, p=0.5), Grayscale(gray)]
    return TargetPreset(size, Photometric(noise, image_in), scale, zoom)
