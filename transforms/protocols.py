"""How a validation protocol changes the size of an image and its label before they are scored.

Each is called as the transforms of joint.py are, with PIL images or stand-ins, and returns uint8 tensors,
(3, H, W) and (H, W). Images are resized bicubically, labels to the nearest pixel.
"""

import torch
from PIL import Image

from transforms.joint import BLACK
from transforms.pil import pixels, to_tensor
from utils.classes import IGNORE_LABEL

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


def full(image, label, centroid, rng):
    """Return both as they are."""
    return to_tensor(pixels(image)), None if label is None else to_tensor(pixels(label))


def half(image, label, centroid, rng):
    """Return both at half their size, whole px."""
    size = max(1, image.width // 2), max(1, image.height // 2)
    image = to_tensor(pixels(image).resize(size, BICUBIC))
    return image, None if label is None else to_tensor(pixels(label).resize(size, NEAREST))


class HeightThenSquare:
    """Scale to `side` px of height, width in proportion, then crop the middle square of `side` px.

    What the image does not fill is centred padding: black, label 255.
    """

    def __init__(self, side: int):
        self.side = side

    def apply(self, image, resample: Image.Resampling, fill: int) -> torch.Tensor:
        width = max(1, round(image.width * self.side / image.height))
        image = pixels(image)
        square = Image.new(image.mode, (self.side, self.side), (fill,) * len(image.getbands()))
        square.paste(image.resize((width, self.side), resample), ((self.side - width) // 2, 0))
        return to_tensor(square)

    def __call__(self, image, label, centroid, rng):
        image = self.apply(image, BICUBIC, BLACK)
        return image, None if label is None else self.apply(label, NEAREST, IGNORE_LABEL)


PROTOCOLS = {"full": (full,), "half": (half,), "legacy": (HeightThenSquare(1536),)}
