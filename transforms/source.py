"""Training images as DA-SAC was published with (arXiv 2105.00097).

They differ from `presets.train` in the filter (bilinear), in the order (colours before padding), in the
padding (0 after normalization) and in the shape of the crop, which need not be square.
"""

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from transforms.joint import Pixel, RandomHorizontalFlip
from transforms.photometric import Photometric
from transforms.pil import Croppable, pixels, to_tensor
from utils.classes import IGNORE_LABEL

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


class SourcePreset:
    """Scale by a factor uniform in `scale`, take a crop of `size` (height, width) px, mirror half of them.

    First the image is resized to `resize` (height, width) px, if given. The position of the crop is uniform.
    An image that is too small in one direction is centred there, half of the padding rounded down at the top
    or left. Padding is 0 in the normalized image and 255 in the label. Colours change before the padding, so
    that they depend only on the visible part of the image.
    """

    def __init__(
        self,
        size: tuple[int, int],
        photometric: Photometric,
        scale: tuple[float, float] = (0.5, 2.0),
        resize: tuple[int, int] | None = None,
    ):
        self.size, self.photometric, self.scale, self.resize = size, photometric, scale, resize

    def __call__(
        self, image: Croppable, label: Croppable | None, centroid: Pixel | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Return image float32 (3, H, W) and label int64 (H, W) or None; there is no `centroid`."""
        factor = rng.uniform(*self.scale)
        height, width = self.resize or (image.height, image.width)
        scaled = max(1, int(factor * height)), max(1, int(factor * width))
        starts = [int(rng.integers(max(0, s - side) + 1)) for s, side in zip(scaled, self.size, strict=True)]
        mirrored = RandomHorizontalFlip().draw(rng)
        drawn = self.photometric.draw(rng)

        def crop(whole: Croppable, filter_: Image.Resampling) -> Tensor:
            picture = pixels(whole)
            for h, w in (self.resize or scaled, scaled):
                if picture.size != (w, h):
                    picture = picture.resize((w, h), filter_)
            top, left = starts
            bottom, right = (min(s, at + side) for s, at, side in zip(scaled, starts, self.size, strict=True))
            part = to_tensor(picture.crop((left, top, right, bottom)))
            return part.flip(-1) if mirrored else part

        values = pad(self.photometric.apply(crop(image, BILINEAR).float(), drawn), self.size, 0)
        if label is None:
            return values, None
        return values, pad(crop(label, NEAREST), self.size, IGNORE_LABEL).long()


def pad(values: Tensor, size: tuple[int, int], fill: float) -> Tensor:
    """Centre values (..., h, w) in `size`, at least as large; of an odd px more is at the bottom or right."""
    rows, columns = size[0] - values.shape[-2], size[1] - values.shape[-1]
    top, left = rows // 2, columns // 2
    return F.pad(values, (left, columns - left, top, rows - top), value=fill)
