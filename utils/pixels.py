"""From grey levels to what a network sees, and back."""

import torch
from torch import Tensor

ROWS = 256  # denormalized at once
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize_(image: Tensor, per_image: bool = False) -> Tensor:
    """Divide float32 grey levels (3, H, W) by 255, subtract ImageNet's mean and divide by its std, in place.

    With `per_image`, the image's own channel mean and (unbiased) std + 1e-5 replace ImageNet's.
    """
    image.div_(255)
    if per_image:
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True) + 1e-5
        return image.sub_(mean).div_(std)
    for channel, center, scale in zip(image, IMAGENET_MEAN, IMAGENET_STD, strict=True):
        channel.sub_(center).div_(scale)
    return image


def denormalize(image: Tensor, per_image: bool = False) -> Tensor:
    """Return the grey levels of a normalized image (3, H, W): uint8, rounded and clipped, on the CPU.

    An image normalized by its own mean and std (`per_image`) does not tell these: its range is stretched.
    """
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
