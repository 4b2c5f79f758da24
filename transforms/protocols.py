"""Validation protocols: the size at which an image and its label are scored.

Images are resized bicubically, labels to the nearest pixel.
"""

import numpy as np
from PIL import Image
from torch import Tensor

from transforms.joint import BLACK, JointTransform, Pixel
from transforms.pil import Croppable, pixels, to_tensor
from utils.classes import IGNORE_LABEL

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


def full(
    image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return both unchanged."""
    return to_tensor(pixels(image)), None if label is None else to_tensor(pixels(label))


def half(
    image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return both at half their size, rounded down."""
    size = max(1, image.width // 2), max(1, image.height // 2)
    resized = to_tensor(pixels(image).resize(size, BICUBIC))
    return resized, None if label is None else to_tensor(pixels(label).resize(size, NEAREST))


class HeightThenSquare:
    """Scale to a height of `side` px, keeping the proportions, then crop the middle square of `side` px.

    The width is cut off to whole px; the first column of the middle is rounded half to even. A narrower image
    is centred; the padding is black, its label 255.
    """

    def __init__(self, side: int):
        self.side = side

    def apply(self, image: Croppable, resample: Image.Resampling, fill: int) -> Tensor:
        width = max(1, int(image.width / image.height * self.side))
        whole = pixels(image)
        square = Image.new(whole.mode, (self.side, self.side), (fill,) * len(whole.getbands()))
        square.paste(whole.resize((width, self.side), resample), (-round((width - self.side) / 2), 0))
        return to_tensor(square)

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        square = self.apply(image, BICUBIC, BLACK)
        return square, None if label is None else self.apply(label, NEAREST, IGNORE_LABEL)


PROTOCOLS: dict[str, tuple[JointTransform[Croppable], ...]] = {
    "full": (full,),
    "half": (half,),
    "legacy": (HeightThenSquare(1536),),
}
