"""How a validation protocol changes the size of an image and its label before they are scored.

Each is called as the transforms of joint.py are. Images are resized bicubically, labels to the nearest pixel.
"""

import numpy as np
from PIL import Image

from transforms.joint import BLACK, IGNORE_LABEL

Resampling = Image.Resampling


def half(image, label, centroid, rng):
    """Return both at half their size, whole px."""
    size = max(1, image.width // 2), max(1, image.height // 2)
    return image.resize(size, Resampling.BICUBIC), label and pixels(label).resize(size, Resampling.NEAREST)


class HeightThenSquare:
    """Scale to `side` px of height, width in proportion, then crop the middle square of `side` px.

    What the image does not fill is centred padding: black, label 255.
    """

    def __init__(self, side: int):
        self.side = side

    def apply(self, image: Image.Image, resample: Resampling, fill) -> Image.Image:
        width = max(1, round(image.width * self.side / image.height))
        square = Image.new(image.mode, (self.side, self.side), fill)
        square.paste(image.resize((width, self.side), resample), ((self.side - width) // 2, 0))
        return square

    def __call__(self, image, label, centroid, rng):
        image = self.apply(image, Resampling.BICUBIC, BLACK)
        return image, label and self.apply(pixels(label), Resampling.NEAREST, IGNORE_LABEL)


def pixels(label) -> Image.Image:
    """Return a label of train ids, whatever holds it, as a PIL "L" image."""
    return Image.fromarray(np.asarray(label))


PROTOCOLS = {"full": (), "half": (half,), "legacy": (HeightThenSquare(1536),)}
