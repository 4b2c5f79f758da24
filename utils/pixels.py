"""From grey levels to what a network sees, and back."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

ROWS = 256  # denormalized at once
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Colors(NamedTuple):
    """Mean and standard deviation of red, green and blue; grey levels are in 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Colors(IMAGENET_MEAN, IMAGENET_STD)
# Colours of whole datasets, as DA-SAC uses them (arXiv 2105.00097).
DATASET_COLORS = {
    "gtav": Colors((0.481, 0.479, 0.465), (0.243, 0.239, 0.237)),
    "cityscapes": Colors((0.300, 0.344, 0.297), (0.175, 0.180, 0.177)),
}


def matched_colors(source: Colors, target: Colors) -> Colors:
    """Return mean and std that put colours of `source` on those of `target`, then ImageNet's on both.

    With s = (x - m_s) s_t / s_s + m_t, (x - mean) / std = (s - M) / S: mean = m_s - s_s / s_t (m_t - M) and
    std = s_s S / s_t.
    """
    channels = list(zip(*source, *target, *IMAGENET, strict=True))
    mean = tuple(m_s - s_s / s_t * (m_t - m) for m_s, s_s, m_t, s_t, m, _ in channels)
    return Colors(mean, tuple(s_s * s / s_t for _, s_s, _, s_t, _, s in channels))


def normalize_(image: Tensor, per_image: bool = False, colors: Colors = IMAGENET) -> Tensor:
    """Divide float32 grey levels (3, H, W) by 255, subtract a mean and divide by a std, in place.

    They are those of `colors` or, with `per_image`, the image's own channel mean and (unbiased) std + 1e-5.
    """
    image.div_(255)
    if per_image:
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True) + 1e-5
        return image.sub_(mean).div_(std)
    for channel, center, scale in zip(image, *colors, strict=True):
        channel.sub_(center).div_(scale)
    return image


def normalize_levels(images: Tensor, colors: Colors = IMAGENET) -> Tensor:
    """Return what `normalize_` makes of whole grey levels (B, 3, H, W) on a CPU, on any device, to the bit.

    Float32 images are changed in place. A GPU multiplies by the inverse of a number, but divides by a tensor.
    """
    full, mean, std = _constants(colors, images.device)
    return images.float().div_(full).sub_(mean).div_(std)


def has_grey_levels(image: Tensor) -> bool:
    """Whether `image` (..., 3, H, W) is ImageNet's normalization of whole grey levels, within a hundredth."""
    worst = image.new_zeros(())
    for start in range(0, image.shape[-2], ROWS):
        levels = _levels(image[..., start : start + ROWS, :])
        rounded = levels.round().clamp_(0, 255)
        worst = torch.maximum(worst, levels.sub_(rounded).abs_().max())
    return bool(worst < 0.01)


def grey_levels(image: Tensor) -> Tensor:
    """Return the grey levels, uint8, of which `image` (..., 3, H, W) is ImageNet's normalization."""
    return _levels(image).round_().clamp_(0, 255).byte()


def _levels(image: Tensor) -> Tensor:
    full, mean, std = _constants(IMAGENET, image.device)
    return image.mul(std).add_(mean).mul_(full)


@cache
def _constants(colors: Colors, device: torch.device) -> tuple[Tensor, ...]:
    """Return 255, and mean and std as (3, 1, 1), on a device."""
    values = torch.tensor((255.0,)), *(torch.tensor(value)[:, None, None] for value in colors)
    return tuple(value.to(device) for value in values)


def denormalize(image: Tensor, per_image: bool = False) -> Tensor:
    """Return the grey levels of a normalized image (3, H, W): uint8, rounded and clipped, on the CPU.

    An image of uint8 is not normalized yet.
    An image normalized by its own mean and std (`per_image`) does not tell these: its range is stretched.
    """
    if image.dtype == torch.uint8:
        return image.cpu()
    pixels = image.detach().float().cpu()
    if per_image:
        low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
        mean, std = low, (high - low).clamp(min=1e-6)
    else:
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    levels = torch.empty(pixels.shape, dtype=torch.uint8)
    for rows in range(0, pixels.shape[1], ROWS):
        part = pixels[:, rows : rows + ROWS]
        part = (part - mean) / std if per_image else part * std + mean
        levels[:, rows : rows + ROWS] = (part * 255).round_().clamp_(0, 255)
    return levels
