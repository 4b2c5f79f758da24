"""Transforms of the image alone: `transform(image, rng) -> image`, PIL RGB to PIL RGB."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as TF

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ColorJitter:
    """Change brightness, contrast, saturation and hue, in random order, with probability `p`.

    The first three are multiplied by a factor uniform in [max(0, 1 - strength), 1 + strength], hue is
    shifted by up to +-`hue` turns (at most 0.5), as torchvision's transform of this name does.
    """

    ADJUST = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)

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

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        for adjust, amount in self.draw(rng):
            image = self.ADJUST[adjust](image, amount)
        return image


class GaussianBlur:
    """Blur with sigma in px uniform in [low, high]; kernel cut at 4 sigma, border pixels repeated."""

    def __init__(self, low: float = 0.15, high: float = 1.30):
        self.low, self.high = low, high

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        sigma = rng.uniform(self.low, self.high)
        channels = np.asarray(image, np.float32).transpose(2, 0, 1)
        blurred = [gaussian_filter(channel, sigma, mode="nearest", truncate=4.0) for channel in channels]
        return Image.fromarray(np.stack(blurred, -1).round().astype(np.uint8))


class BilateralBlur:
    """Edge-preserving blur with spatial sigma in px uniform in [low, high] (Tomasi and Manduchi, ICCV 1998).

    The range sigma is the standard deviation of all the image's values, distances are Euclidean over the
    channels; the window reaches max(2, ceil(3 sigma)) px, border pixels are repeated.
    """

    def __init__(self, low: float = 0.05, high: float = 0.75):
        self.low, self.high = low, high

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        sigma = rng.uniform(self.low, self.high)
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()  # (3, H, W)
        height, width = values.shape[1:]
        range_scale = -0.5 / max(values.var(correction=0).item(), 1e-12)
        radius = max(2, math.ceil(3 * sigma))
        padded = F.pad(values[None], (radius,) * 4, mode="replicate")[0]
        total, weights = torch.zeros_like(values), torch.zeros(height, width)
        for dy in range(2 * radius + 1):
            for dx in range(2 * radius + 1):
                shifted = padded[:, dy : dy + height, dx : dx + width]
                distance = ((dy - radius) ** 2 + (dx - radius) ** 2) / (-2 * sigma**2)
                weight = (range_scale * (shifted - values).square().sum(0) + distance).exp()
                total += weight * shifted
                weights += weight
        return Image.fromarray((total / weights).round().byte().permute(1, 2, 0).numpy())


class Normalize:
    """Turn a PIL image into a float32 (3, H, W) tensor with ImageNet's mean and std taken out.

    With `per_image`, the image's own channel mean and (unbiased) std + 1e-5 take their place.
    """

    def __init__(self, per_image: bool = False):
        self.per_image = per_image

    def __call__(self, image: Image.Image) -> torch.Tensor:
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255).contiguous()
        if self.per_image:
            mean, std = values.mean((1, 2)), values.std((1, 2)) + 1e-5
        else:
            mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        return values.sub_(mean[:, None, None]).div_(std[:, None, None])
