"""Transforms of the image alone: `transform(image, rng) -> image`, PIL RGB to PIL RGB.

`Photometric` is the same for batches of tensors on any device.
"""

import math
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import functional as TF

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def shift_hue(image: Image.Image, amount: float) -> Image.Image:
    """Shift the hue by `amount` turns: as torchvision's adjust_hue, bit for bit, but faster.

    Pillow computes RGB from HSV pixel by pixel; here it is the value times a factor by hue and saturation.
    """
    hue, saturation, value = (np.asarray(channel) for channel in image.convert("HSV").split())
    shifted = hue + np.uint8(int(amount * 255) % 256)  # modulo 256
    index = shifted.astype(np.intp) << 8 | saturation
    value, rgb = value.astype(np.float32), np.empty((*hue.shape, 3), np.uint8)
    for channel, factors in enumerate(channel_by_value()):
        product = factors.take(index)
        product *= value
        product += np.float32(0.5)
        rgb[..., channel] = product
    return Image.fromarray(rgb)


@cache
def channel_by_value() -> np.ndarray:
    """Return float32 (3, 65536): red, green and blue divided by the value, at index hue * 256 + saturation.

    The precisions are those of Pillow's Convert.c, hsv2rgb.
    """
    hue, saturation = np.mgrid[:256, :256].reshape(2, -1)
    sector, within = np.divmod(hue * 6 / 255, 1)
    within, saturation = within.astype(np.float32), (saturation / 255).astype(np.float32)
    high = np.ones(len(hue))
    low = 1.0 - saturation.astype(np.float64)
    falling = 1.0 - (saturation * within).astype(np.float64)
    rising = 1.0 - saturation * (1.0 - within.astype(np.float64))
    channels = (
        (high, falling, low, low, rising, high),
        (rising, high, high, falling, low, low),
        (low, low, rising, high, high, falling),
    )
    return np.array([np.choose(sector.astype(int) % 6, six) for six in channels], np.float32)


class ColorJitter:
    """Change brightness, contrast, saturation and hue, in random order, with probability `p`.

    The first three are multiplied by a factor uniform in [max(0, 1 - strength), 1 + strength], hue is
    shifted by up to +-`hue` turns (at most 0.5), as torchvision's transform of this name does.
    """

    ADJUST = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, shift_hue)

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

    STRIP = 192  # rows worked on at a time, so that they stay in the processor's cache

    def __init__(self, low: float = 0.15, high: float = 1.30):
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator) -> float:
        return rng.uniform(self.low, self.high)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        sigma = self.draw(rng)
        radius = int(4 * sigma + 0.5)
        weights = gaussian_weights(torch.tensor([sigma]), radius)[0].tolist()
        padded = np.pad(np.asarray(image), ((radius, radius), (radius, radius), (0, 0)), "edge")
        padded = torch.from_numpy(padded).flatten(1)  # (H + 2 radius, 3 (W + 2 radius))
        blurred = torch.empty(image.height, 3 * image.width, dtype=torch.uint8)
        memory = torch.empty(3, self.STRIP + 2 * radius, padded.shape[1])  # taken once: fresh pages are slow
        for top in range(0, image.height, self.STRIP):
            height = min(self.STRIP, image.height - top)
            rows = memory[0, : height + 2 * radius].copy_(padded[top : top + height + 2 * radius])
            rows = _weighted_sum(rows, weights, 0, 1, out=memory[1, :height])
            rows = _weighted_sum(rows, weights, 1, 3, out=memory[2, :height, : blurred.shape[1]])
            blurred[top : top + height] = rows.round_()
        return Image.fromarray(blurred.numpy().reshape(image.height, image.width, 3))


class Grayscale:
    """Take the colour out, with probability `p`; the result is still RGB."""

    def __init__(self, p: float):
        self.p = p

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return image.convert("L").convert("RGB") if rng.random() < self.p else image


def gaussian_weights(sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Return kernels (B, 2 radius + 1) of sum 1 for sigmas (B,) in px, zero from int(4 sigma + 0.5) px on."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    weights = (-0.5 * (distance / sigma[:, None]) ** 2).exp()
    weights = weights * (distance.abs() <= (4 * sigma[:, None] + 0.5).floor())
    return weights / weights.sum(1, keepdim=True)


def _weighted_sum(
    values: torch.Tensor, weights: list[float], axis: int, step: int, out: torch.Tensor
) -> torch.Tensor:
    """Return in `out` the sum of weights[i] * (values moved by i * step along the axis), where all exist."""
    moved = [values.narrow(axis, i * step, out.shape[axis]) for i in range(len(weights))]
    torch.mul(moved[0], weights[0], out=out)
    for part, weight in zip(moved[1:], weights[1:], strict=True):
        out.add_(part, alpha=weight)
    return out


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
        return self.batch(to_tensor(image)[None])[0]

    def batch(self, images: torch.Tensor) -> torch.Tensor:
        """Normalize images (B, 3, H, W) of values 0..255."""
        images = images.float().div_(255)
        if self.per_image:
            mean, std = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True) + 1e-5
            return images.sub_(mean).div_(std)
        for channel, mean, std in zip(images.unbind(1), IMAGENET_MEAN, IMAGENET_STD, strict=True):
            channel.sub_(mean).div_(std)
        return images


def to_tensor(image) -> torch.Tensor:
    """Return an RGB image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


class Photometric:
    """A jitter, a blur (either may be None), then normalization: drawn on the CPU, applied on any device.

    Amounts, order and rounding to whole grey levels are those of the transforms of PIL images above; results
    differ by a grey level here and there where floating point rounds otherwise.
    """

    DRAWN = 9  # numbers per image: four operations or -1, their amounts, sigma or 0
    RADIUS = 5  # px, int(4 * 1.30 + 0.5)

    def __init__(self, jitter: ColorJitter | None, blur: GaussianBlur | None, per_image: bool = False):
        self.jitter, self.blur, self.normalize = jitter, blur, Normalize(per_image)

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """Draw what one image gets, (DRAWN,), with the numbers that the PIL transforms would take."""
        steps = self.jitter.draw(rng) if self.jitter else []
        kinds, amounts = zip(*steps, strict=True) if steps else ((-1,) * 4, (0.0,) * 4)
        sigma = self.blur.draw(rng) if self.blur else 0.0
        return torch.tensor([*kinds, *amounts, sigma], dtype=torch.float64)

    def __call__(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, 3, H, W) on the device of `images` uint8 (B, 3, H, W).

        `drawn` (B, DRAWN) stays on the CPU, where the order of operations is read; nothing waits for the
        device.
        """
        values = images.float()
        for image, numbers in zip(values, drawn.tolist(), strict=True):
            for kind, amount in zip(numbers[:4], numbers[4:8], strict=True):
                if kind >= 0:
                    image.copy_(TENSOR_ADJUST[int(kind)](image, amount))
        if self.blur:
            values = _blur_batch(
                values, drawn[:, 8].float().to(values.device, non_blocking=True), self.RADIUS
            )
        return self.normalize.batch(values)


def _blur_batch(images: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    batch, channels, height, width = images.shape
    weights = gaussian_weights(sigma, radius).repeat_interleave(channels, 0)[:, None]
    padded = F.pad(images, (radius,) * 4, mode="replicate").reshape(
        1, batch * channels, -1, width + 2 * radius
    )
    blurred = F.conv2d(padded, weights[..., None], groups=batch * channels)
    blurred = F.conv2d(blurred, weights[:, :, None], groups=batch * channels)
    return blurred.round_().reshape(images.shape)


# Pillow's enhancements of 8-bit images with its rounding: (3, H, W) of whole numbers 0..255 as floats.


def gray(image: torch.Tensor) -> torch.Tensor:
    """Return ITU-R 601-2 luma (H, W); all sums are below 2^24, so exact."""
    red, green, blue = image
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor_()


def blend(other: torch.Tensor, image: torch.Tensor, amount: float) -> torch.Tensor:
    return (other + amount * (image - other)).clamp_(0, 255).floor_()


def adjust_brightness(image: torch.Tensor, amount: float) -> torch.Tensor:
    return blend(image.new_zeros(()), image, amount)


def adjust_contrast(image: torch.Tensor, amount: float) -> torch.Tensor:
    return blend((gray(image).mean(dtype=torch.float64) + 0.5).floor().float(), image, amount)


def adjust_saturation(image: torch.Tensor, amount: float) -> torch.Tensor:
    return blend(gray(image), image, amount)


def adjust_hue(image: torch.Tensor, amount: float) -> torch.Tensor:
    """Shift the hue by `amount` turns, in HSV of whole numbers 0..255 as Pillow has it.

    Back in RGB, channel n is v - s v max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6, n = 5, 3, 1.
    """
    value, chroma = image.amax(0), image.amax(0) - image.amin(0)
    is_red, is_green, _ = image == value
    red, green, blue = ((value - image) / chroma.clamp(min=1)).double()
    hue = torch.where(is_red, blue - green, torch.where(is_green, 2 + red - blue, 4 + green - red)).float()
    hue = (hue.double() / 6 + 1).frac_().float()  # single and double precision where Pillow has them
    hue = (hue.double() * 255).floor_().float()
    hue = torch.where(chroma == 0, 0.0, hue).add_(int(amount * 255)).remainder_(256)
    purity = ((chroma / value.clamp(min=1)).double() * 255).floor_().float()  # saturation
    taken = value * purity / 255
    for channel, n in zip(image := torch.empty_like(image), (5, 3, 1), strict=True):
        k = (hue * (6 / 255) + n).remainder_(6)
        torch.sub(value, taken * torch.minimum(k, 4 - k).clamp_(0, 1), out=channel).add_(0.5).floor_()
    return image


TENSOR_ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)  # as ColorJitter.ADJUST
