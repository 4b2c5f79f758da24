"""Transforms of the image alone: a float32 tensor (3, H, W) of whole grey levels 0..255, on any device.

Each is called as `transform(image, rng) -> image` and may change the image it gets. Those that take part in
training's augmentation have `draw`, which takes the random numbers, and `apply`, which is free of chance,
works in place and does not wait for the device. Grey levels are rounded as Pillow does.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from utils.pixels import normalize_


def strips(image: torch.Tensor) -> list[slice]:
    """Return the rows to work on at a time: so few on a CPU that intermediate results stay in its cache."""
    height = image.shape[1]
    step = 192 if image.device.type == "cpu" else height
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]


def gray(image: torch.Tensor) -> torch.Tensor:
    """Return ITU-R 601-2 luma (H, W) with weights of 16 bits: all sums are exact."""
    red, green, blue = image
    luma = red * (19595 / 65536)
    return luma.add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536).add_(0.5).floor_()


def blend(other: torch.Tensor | float, image: torch.Tensor, amount: float) -> torch.Tensor:
    """Move the image in place from `other`, 0, to itself, 1, or beyond."""
    return image.sub_(other).mul_(amount).add_(other).clamp_(0, 255).floor_()


def adjust_brightness(image: torch.Tensor, amount: float) -> torch.Tensor:
    return blend(0.0, image, amount)


def adjust_contrast(image: torch.Tensor, amount: float) -> torch.Tensor:
    total = sum(gray(image[:, rows]).sum(dtype=torch.float64) for rows in strips(image))
    return blend((total / image[0].numel() + 0.5).floor().float(), image, amount)


def adjust_saturation(image: torch.Tensor, amount: float) -> torch.Tensor:
    for rows in strips(image):
        blend(gray(image[:, rows]), image[:, rows], amount)
    return image


def adjust_hue(image: torch.Tensor, amount: float) -> torch.Tensor:
    """Shift the hue by `amount` turns, in HSV (Smith, SIGGRAPH 1978) of whole numbers 0..255 as Pillow's.

    With value v = max, chroma c = v - min and hue h in sixths of a turn, c h is g - b where red is v, else
    2 c + b - r where green is v, else 4 c + r - g. Back from hue and saturation, c = v s / 255 and blue is
    v - c min(max(|h - 4| - 1, 0), 1), green the same with 2 for 4, red v - c min(max(2 - |h - 3|, 0), 1).
    Numerators are exact, so no quotient that is a whole number is rounded below it, as Pillow's are at times.
    """
    shift = int(amount * 255) % 256
    for rows in strips(image):
        red, green, blue = image[:, rows]
        value = torch.maximum(torch.maximum(red, green), blue)
        chroma = value - torch.minimum(torch.minimum(red, green), blue)
        of_red, of_green, of_blue = green - blue, blue - red, red - green
        # c h by the channel that is v; red and green hold masks until their new values
        hue = of_blue.add_(chroma, alpha=4)
        hue.lerp_(of_green.add_(chroma, alpha=2), green.eq_(value))
        hue.lerp_(of_red, red.eq_(value))
        hue.mul_(255 / 6).div_(chroma.clamp(min=1)).add_(torch.lt(hue, 0, out=red), alpha=255)
        hue.floor_().add_(shift)
        hue.sub_(torch.ge(hue, 256, out=red), alpha=256).mul_(6 / 255)
        saturation = chroma.mul_(255).div_(value.clamp(min=1)).floor_()
        chroma = saturation.mul_(value).div_(255)
        value.add_(0.5)  # to round
        torch.sub(value, (hue - 3).abs_().neg_().add_(2).clamp_(0, 1).mul_(chroma), out=red).floor_()
        torch.sub(value, (hue - 2).abs_().sub_(1).clamp_(0, 1).mul_(chroma), out=green).floor_()
        torch.sub(value, (hue - 4).abs_().sub_(1).clamp_(0, 1).mul_(chroma), out=blue).floor_()
    return image


class ColorJitter:
    """Change brightness, contrast, saturation and hue, in random order, with probability `p`.

    The first three are multiplied by a factor uniform in [max(0, 1 - strength), 1 + strength], hue is
    shifted by up to +-`hue` turns (at most 0.5), as torchvision's transform of this name does.
    """

    ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, p: float = 1.0):
        ranges = [(max(0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)]
        self.low, self.high = zip(*ranges, (-hue, hue), strict=True)
        self.p = p

    def draw(self, rng: np.random.Generator) -> list[tuple[int, float]]:
        """Return (index into ADJUST, amount) in the order of application."""
        if rng.random() >= self.p:
            return []
        amounts = rng.uniform(self.low, self.high)
        return [(int(i), float(amounts[i])) for i in rng.permutation(4)]

    def apply(self, image: torch.Tensor, steps: list[tuple[int, float]]) -> torch.Tensor:
        for adjust, amount in steps:
            image = self.ADJUST[adjust](image, amount)
        return image

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return self.apply(image, self.draw(rng))


class GaussianBlur:
    """Blur with sigma in px uniform in [low, high]; kernel cut at 4 sigma, border pixels repeated."""

    def __init__(self, low: float = 0.15, high: float = 1.30):
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator) -> float:
        return rng.uniform(self.low, self.high)

    def apply(self, image: torch.Tensor, sigma: float) -> torch.Tensor:
        weights = gaussian_weights(sigma)
        radius = len(weights) // 2
        padded = F.pad(image[None], (radius,) * 4, "replicate")[0]
        for rows in strips(image):
            part = padded[:, rows.start : rows.stop + 2 * radius]
            down = part.new_empty(3, rows.stop - rows.start, part.shape[2])
            _weighted_sum(part, weights, 1, out=down)
            _weighted_sum(down, weights, 2, out=image[:, rows]).round_()
        return image

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return self.apply(image, self.draw(rng))


def gaussian_weights(sigma: float) -> list[float]:
    """Return the kernel of sum 1, from -radius to radius = int(4 sigma + 0.5) px."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).tolist()


def _weighted_sum(values: torch.Tensor, weights: list[float], axis: int, out: torch.Tensor) -> torch.Tensor:
    """Return in `out` the sum of weights[i] * (values moved by i along the axis), where all exist."""
    moved = [values.narrow(axis, i, out.shape[axis]) for i in range(len(weights))]
    torch.mul(moved[0], weights[0], out=out)
    for part, weight in zip(moved[1:], weights[1:], strict=True):
        out.add_(part, alpha=weight)
    return out


class Grayscale:
    """Take the colour out, with probability `p`; the result still has three channels."""

    def __init__(self, p: float):
        self.p = p

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return gray(image).expand_as(image).clone() if rng.random() < self.p else image


class BilateralBlur:
    """Edge-preserving blur with spatial sigma in px uniform in [low, high] (Tomasi and Manduchi, ICCV 1998).

    The range sigma is the standard deviation of all the image's values, distances are Euclidean over the
    channels; the window reaches max(2, ceil(3 sigma)) px, border pixels are repeated.
    """

    def __init__(self, low: float = 0.05, high: float = 0.75):
        self.low, self.high = low, high

    def __call__(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        sigma = rng.uniform(self.low, self.high)
        height, width = image.shape[1:]
        range_scale = -0.5 / max(image.var(correction=0).item(), 1e-12)
        radius = max(2, math.ceil(3 * sigma))
        padded = F.pad(image[None], (radius,) * 4, mode="replicate")[0]
        total, weights = torch.zeros_like(image), torch.zeros_like(image[0])
        for dy in range(2 * radius + 1):
            for dx in range(2 * radius + 1):
                shifted = padded[:, dy : dy + height, dx : dx + width]
                distance = ((dy - radius) ** 2 + (dx - radius) ** 2) / (-2 * sigma**2)
                weight = (range_scale * (shifted - image).square().sum(0) + distance).exp()
                total += weight * shifted
                weights += weight
        return (total / weights).round_()


class Normalize:
    """Divide by 255 and take ImageNet's mean and std out of the image, in place.

    With `per_image`, the image's own channel mean and (unbiased) std + 1e-5 take their place.
    """

    def __init__(self, per_image: bool = False):
        self.per_image = per_image

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return normalize_(image, self.per_image)


class Photometric:
    """A jitter, a blur (either may be None), then normalization: drawn on the CPU, applied on any device."""

    DRAWN = 9  # numbers per image: four operations or -1, their amounts, sigma or 0

    def __init__(self, jitter: ColorJitter | None, blur: GaussianBlur | None, per_image: bool = False):
        self.jitter, self.blur, self.normalize = jitter, blur, Normalize(per_image)

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """Draw what one image gets, (DRAWN,), with the numbers that the transforms alone would take."""
        steps = self.jitter.draw(rng) if self.jitter else []
        kinds, amounts = zip(*steps, strict=True) if steps else ((-1,) * 4, (0.0,) * 4)
        sigma = self.blur.draw(rng) if self.blur else 0.0
        return torch.tensor([*kinds, *amounts, sigma], dtype=torch.float64)

    def __call__(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, 3, H, W) on the device of `images` uint8 (B, 3, H, W).

        `drawn` (B, DRAWN) stays on the CPU, where the order of operations is read; nothing waits for the
        device.
        """
        images = images.float()
        for image, (*steps, sigma) in zip(images, drawn.tolist(), strict=True):
            kinds, amounts = steps[:4], steps[4:]
            if kinds[0] >= 0:
                self.jitter.apply(image, list(zip(map(int, kinds), amounts, strict=True)))
            if self.blur:
                self.blur.apply(image, sigma)
            self.normalize(image)
        return images
