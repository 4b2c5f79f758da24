"""Between tensors and PIL images, or stand-ins for PIL images."""

from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Croppable(Protocol):
    """A PIL image or a stand-in for one, which decodes no more than is cropped."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image | np.ndarray:
        """Return the part (left, top, right, bottom), end exclusive: a PIL image or its pixels as uint8."""
        ...


def pixels(image: Croppable) -> Image.Image:
    """Return the whole of an image as a PIL image."""
    whole = image.crop((0, 0, image.width, image.height))
    return Image.fromarray(whole) if isinstance(whole, np.ndarray) else whole


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as uint8 (3, H, W), a label as (H, W)."""
    values = torch.from_numpy(np.array(image))
    return values.permute(2, 0, 1).contiguous() if values.ndim == 3 else values


def to_pil(values: Tensor) -> Image.Image:
    """Undo `to_tensor`."""
    return Image.fromarray((values.permute(1, 2, 0).contiguous() if values.ndim == 3 else values).numpy())
