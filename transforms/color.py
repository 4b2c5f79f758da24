"""Colour adjustments of an image: a float32 tensor (3, H, W) of whole grey levels 0..255, on any device.

Adjustments change the image in place, do not wait for the device, and round as Pillow does.
"""

import torch
from torch import Tensor


def strips(image: Tensor) -> list[slice]:
    """Return which rows to work on at a time; on a CPU so few that intermediate results stay in its cache."""
    height = image.shape[1]
    step = 192 if image.device.type == "cpu" else height
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]


def gray(image: Tensor) -> Tensor:
    """Return ITU-R 601-2 luma (H, W). Its weights have 16 bits, so all sums are exact."""
    red, green, blue = image
    luma = red * (19595 / 65536)
    return luma.add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536).add_(0.5).floor_()


def blend(other: Tensor | float, image: Tensor, amount: float) -> Tensor:
    """Mix in place: `amount` 0 gives `other`, 1 the image; a larger amount exaggerates the difference."""
    return image.sub_(other).mul_(amount).add_(other).clamp_(0, 255).floor_()


def adjust_brightness(image: Tensor, amount: float) -> Tensor:
    return blend(0.0, image, amount)


def adjust_contrast(image: Tensor, amount: float) -> Tensor:
    sums = [gray(image[:, rows]).sum(dtype=torch.float64) for rows in strips(image)]
    total = sum(sums[1:], start=sums[0])
    return blend((total / image[0].numel() + 0.5).floor().float(), image, amount)


def adjust_saturation(image: Tensor, amount: float) -> Tensor:
    for rows in strips(image):
        blend(gray(image[:, rows]), image[:, rows], amount)
    return image


def adjust_hue(image: Tensor, amount: float) -> Tensor:
    """Shift the hue by `amount` turns, in HSV (Smith, SIGGRAPH 1978) with whole numbers 0..255 like Pillow's.

    With value v = max, chroma c = v - min and hue h in sixths of a turn, c h is g - b where red is v, else
    2 c + b - r where green is v, else 4 c + r - g. Back from hue and saturation, c = v s / 255. Blue is
    v - c min(max(|h - 4| - 1, 0), 1), green the same with 2 instead of 4, red is
    v - c min(max(2 - |h - 3|, 0), 1). Numerators are exact. So a quotient that is a whole number is never
    rounded down to the next smaller one, which sometimes happens in Pillow.
    """
    shift = int(amount * 255) % 256
    for rows in strips(image):
        red, green, blue = image[:, rows]
        value = torch.maximum(torch.maximum(red, green), blue)
        chroma = value - torch.minimum(torch.minimum(red, green), blue)
        of_red, of_green, of_blue = green - blue, blue - red, red - green
        # c h depends on which channel is v; red and green hold masks until they get their new values
        hue = of_blue.add_(chroma, alpha=4)
        hue.lerp_(of_green.add_(chroma, alpha=2), green.eq_(value))
        hue.lerp_(of_red, red.eq_(value))
        hue.mul_(255 / 6).div_(chroma.clamp(min=1)).add_(torch.lt(hue, 0, out=red), alpha=255)
        hue.floor_().add_(shift)
        hue.sub_(torch.ge(hue, 256, out=red), alpha=256).mul_(6 / 255)
        saturation = chroma.mul_(255).div_(value.clamp(min=1)).floor_()
        chroma = saturation.mul_(value).div_(255)
        value.add_(0.5)  # for rounding
        torch.sub(value, (hue - 3).abs_().neg_().add_(2).clamp_(0, 1).mul_(chroma), out=red).floor_()
        torch.sub(value, (hue - 2).abs_().sub_(1).clamp_(0, 1).mul_(chroma), out=green).floor_()
        torch.sub(value, (hue - 4).abs_().sub_(1).clamp_(0, 1).mul_(chroma), out=blue).floor_()
    return image
