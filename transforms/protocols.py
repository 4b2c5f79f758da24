"""How a validation protocol changes the size of an image and its label before they are scored.

Each is called as the transforms of joint.py are. Images are resized bicubically, labels to the nearest pixel.
"""

from PIL import Image

from transforms.joint import BLACK, IGNORE_LABEL

BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST


def full(image, label, centroid, rng):
    """Return both as they are."""
    return pixels(image), label and pixels(label)


def half(image, label, centroid, rng):
    """Return both at half their size, whole px."""
    size = max(1, image.width // 2), max(1, image.height // 2)
    return pixels(image).resize(size, BICUBIC), label and pixels(label).resize(size, NEAREST)


class HeightThenSquare:
    """Scale to `side` px of height, width in proportion, then crop the middle square of `side` px.

    What the image does not fill is centred padding: black, label 255.
    """

    def __init__(self, side: int):
        self.side = side

    def apply(self, image: Image.Image, resample: Image.Resampling, fill) -> Image.Image:
        width = max(1, round(image.width * self.side / image.height))
        square = Image.new(image.mode, (self.side, self.side), fill)
        square.paste(image.resize((width, self.side), resample), ((self.side - width) // 2, 0))
        return square

    def __call__(self, image, label, centroid, rng):
        image = self.apply(pixels(image), BICUBIC, BLACK)
        return image, label and self.apply(pixels(label), NEAREST, IGNORE_LABEL)


def pixels(image) -> Image.Image:
    """Return the whole of `image`, which may be a stand-in that is decoded only now, as a PIL image."""
    return image.crop((0, 0, image.width, image.height))


PROTOCOLS = {"full": (full,), "half": (half,), "legacy": (HeightThenSquare(1536),)}
