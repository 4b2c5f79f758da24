"""Operations on the image without its label: a float32 tensor (3, H, W) of whole grey levels 0..255.

To add an operation, write a subclass of `Operation` here and add a line to `presets.operations`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageFilter
from torch import Tensor

from transforms.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, gray, strips
from transforms.pil import to_pil, to_tensor
from utils.pixels import IMAGENET, Colors, normalize_, normalize_levels

# What an operation draws for one image: numbers and tensors, always with the same keys and shapes, so that
# torch's default_collate stacks the draws of a batch.
Drawn = Mapping[str, Any]


class Operation:
    """An operation on an image: `draw` takes its random numbers, `apply` is deterministic."""

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Return what `apply` needs for one image."""
        raise NotImplementedError

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        """Change the image in place, on any device and without waiting for it. `drawn` is on the CPU.

        The image holds grey levels in 0..255, float32 (3, H, W).
        """
        raise NotImplementedError

    def apply_to_batch(self, images: Tensor, drawn: Mapping[str, Tensor]) -> None:
        """Change images (B, 3, H, W) in place as `apply` does each; `drawn` holds their collated draws."""
        for number, image in enumerate(images):
            self.apply(image, _draw_of(drawn, number))

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw, apply and return the image, which is changed in place."""
        self.apply(image, self.draw(rng))
        return image


class ColorJitter(Operation):
    """Change brightness, contrast, saturation and hue, in random order, with probability `p`.

    The first three are multiplied by a factor uniform in [max(0, 1 - strength), 1 + strength]. Hue is shifted
    by up to +-`hue` turns (at most 0.5). torchvision's transform of this name does the same.
    """

    ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, p: float = 1.0):
        ranges = [(max(0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)]
        self.low, self.high = zip(*ranges, (-hue, hue), strict=True)
        self.p = p

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw whether to change anything, the amount (4,) per adjustment and their order (4,)."""
        wanted = rng.random() < self.p
        amounts = rng.uniform(self.low, self.high) if wanted else np.zeros(4)
        order = rng.permutation(4) if wanted else np.arange(4)
        return {"wanted": wanted, "amounts": torch.from_numpy(amounts), "order": torch.from_numpy(order)}

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        if not drawn["wanted"]:
            return
        amounts = drawn["amounts"].tolist()
        for number in drawn["order"].tolist():
            self.ADJUST[number](image, amounts[number])


class GaussianBlur(Operation):
    """Blur with sigma in px uniform in [low, high]; kernel cut at 4 sigma, border pixels repeated."""

    def __init__(self, low: float = 0.15, high: float = 1.30):
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"sigma": rng.uniform(self.low, self.high)}

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        weights = gaussian_weights(drawn["sigma"])
        radius = len(weights) // 2
        padded = F.pad(image[None], (radius,) * 4, "replicate")[0]
        for rows in strips(image):
            part = padded[:, rows.start : rows.stop + 2 * radius]
            down = part.new_empty(3, rows.stop - rows.start, part.shape[2])
            _weighted_sum(part, weights, 1, out=down)
            _weighted_sum(down, weights, 2, out=image[:, rows]).round_()

    def apply_to_batch(self, images: Tensor, drawn: Mapping[str, Tensor]) -> None:
        """On a GPU all images are blurred at once: one launch for the columns and one for the rows."""
        if images.is_cuda:
            images.copy_(blurred(images, drawn["sigma"].tolist()).round_())
        else:
            super().apply_to_batch(images, drawn)


def blurred(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return images (B, 3, H, W) blurred with one sigma each, in px; see GaussianBlur."""
    kernels = [gaussian_weights(sigma) for sigma in sigmas]
    size = max(map(len, kernels))
    weights = torch.tensor([[0.0] * pad + k + [0.0] * pad for k in kernels for pad in [(size - len(k)) // 2]])
    weights = weights.to(images.device, images.dtype).repeat_interleave(3, 0)[:, None, :, None]
    channels = F.pad(images, (size // 2,) * 4, "replicate").flatten(0, 1)[None]
    with torch.backends.cudnn.flags(enabled=False):  # its convolutions round to TF32
        channels = F.conv2d(channels, weights, groups=len(weights))
        channels = F.conv2d(channels, weights.mT, groups=len(weights))
    return channels[0].unflatten(0, (-1, 3))


class PillowBlur(Operation):
    """Pillow's Gaussian blur, three box filters, with a radius (sigma) in px uniform in [low, high].

    `apply` computes on the CPU, so it would wait for a GPU.
    """

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"radius": rng.uniform(self.low, self.high)}

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        picture = to_pil(image.byte().cpu())
        image.copy_(to_tensor(picture.filter(ImageFilter.GaussianBlur(drawn["radius"]))))


def gaussian_weights(sigma: float) -> list[float]:
    """Return the kernel of sum 1, from -radius to radius = int(4 sigma + 0.5) px."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).tolist()


def _weighted_sum(values: Tensor, weights: list[float], axis: int, out: Tensor) -> Tensor:
    """Return in `out` the sum over i of weights[i] * (values moved by i along the axis)."""
    moved = [values.narrow(axis, i, out.shape[axis]) for i in range(len(weights))]
    torch.mul(moved[0], weights[0], out=out)
    for part, weight in zip(moved[1:], weights[1:], strict=True):
        out.add_(part, alpha=weight)
    return out


class BilateralBlur(Operation):
    """Edge-preserving blur with spatial sigma in px uniform in [low, high] (Tomasi and Manduchi, ICCV 1998).

    The range sigma is the standard deviation of all values of the image; distances are Euclidean over the
    channels. The window reaches max(2, ceil(3 sigma)) px, border pixels are repeated. `apply` reads the
    deviation, so it would wait for a GPU.
    """

    def __init__(self, low: float = 0.05, high: float = 0.75):
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"sigma": rng.uniform(self.low, self.high)}

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        sigma = drawn["sigma"]
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
        torch.div(total, weights, out=image).round_()


class Grayscale(Operation):
    """Remove the colour with probability `p`; the result still has three channels."""

    def __init__(self, p: float):
        self.p = p

    def draw(self, rng: np.random.Generator) -> Drawn:
        return {"wanted": rng.random() < self.p}

    def apply(self, image: Tensor, drawn: Drawn) -> None:
        if drawn["wanted"]:
            image.copy_(gray(image).expand_as(image))


class Normalize:
    """Divide by 255, subtract the mean of `colors` and divide by their std, in place.

    With `per_image`, the image's own channel mean and (unbiased) std + 1e-5 replace them.
    """

    def __init__(self, per_image: bool = False, colors: Colors = IMAGENET):
        self.per_image, self.colors = per_image, colors

    def __call__(self, image: Tensor) -> Tensor:
        return normalize_(image, self.per_image, self.colors)


class Photometric:
    """Operations of different classes in order, then normalization: drawn on the CPU, applied on any device.

    ValueError for two operations of one class, because the class names them in what is drawn.
    """

    def __init__(
        self, operations: Iterable[Operation] = (), per_image: bool = False, colors: Colors = IMAGENET
    ):
        self.operations, self.normalize = list(operations), Normalize(per_image, colors)
        self.named = {type(operation).__name__: operation for operation in self.operations}
        if len(self.named) < len(self.operations):
            raise ValueError(f"operations must be of different classes, not {', '.join(self.named)} twice")

    def draw(self, rng: np.random.Generator) -> dict[str, Drawn]:
        """Draw what one image gets: {class of the operation: what it draws}."""
        return {name: operation.draw(rng) for name, operation in self.named.items()}

    def apply(self, image: Tensor, drawn: Mapping[str, Drawn]) -> Tensor:
        """Return the image, float32 grey levels (3, H, W), changed in place and normalized."""
        return self.normalize(self.adjust(image, drawn))

    def adjust(self, image: Tensor, drawn: Mapping[str, Drawn]) -> Tensor:
        """Return the image, float32 grey levels (3, H, W), changed in place and not normalized."""
        for name, operation in self.named.items():
            operation.apply(image, drawn[name])
        return image

    def __call__(self, images: Tensor, drawn: Mapping[str, Mapping[str, Tensor]] | None = None) -> Tensor:
        """Return float32 (B, 3, H, W) on the device of `images` uint8 (B, 3, H, W).

        `drawn` holds the draws of the images, collated to tensors (B, ...) on the CPU; without it, the images
        are only normalized. The host does not wait for the device.
        """
        changed = images.float()
        for name, batch in (drawn or {}).items():
            self.named[name].apply_to_batch(changed, batch)
        if not self.normalize.per_image:
            return normalize_levels(changed, self.normalize.colors)
        for image in changed:
            self.normalize(image)
        return changed


def _draw_of(batch: Mapping[str, Tensor], number: int) -> Drawn:
    """Return one image's draw from a collated batch: numbers where the operation drew numbers."""
    return {
        key: values[number] if values.ndim > 1 else values[number].item() for key, values in batch.items()
    }
