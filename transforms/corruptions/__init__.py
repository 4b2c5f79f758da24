"""Common corruptions of images (Hendrycks, Dietterich, arXiv 1903.12261; on Cityscapes: arXiv 1908.05005).

The benchmark's 15 corruptions come first, then others. Each has five severities and changes only the image,
never its label. A corrupted image depends on the corruption, the severity and the name of the image.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from transforms.corruptions import blur, digital, noise, weather
from transforms.pil import Croppable, pixels

CORRUPTIONS = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "saturate": digital.saturate,
}


def corrupt(image: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Return a corrupted RGB image; both are uint8 (H, W, 3)."""
    values = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    values /= 255
    values = CORRUPTIONS[name](values, severity, rng)
    values = np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))


@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity, 1 to 5."""

    name: str
    severity: int

    def __call__(self, image: Croppable, image_name: str) -> Image.Image:
        """Return the corrupted image; chance comes from the names of the corruption and the image."""
        digest = hashlib.sha256(f"{self.name}/{image_name}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
        return Image.fromarray(corrupt(np.asarray(pixels(image)), self.name, self.severity, rng))
