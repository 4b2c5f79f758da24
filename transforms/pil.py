"""Between tensors and PIL images, or what stands in for one.

A stand-in for an image has `width`, `height` and `crop(box)`, which returns a PIL image or its pixels as a
uint8 array and decodes no more than it must.
"""

import numpy as np
import torch
from PIL import Image


def pixels(image) -> Image.Image:
    """Return the whole of a PIL image or stand-in as a PIL image."""
    whole = image.crop((0, 0, image.width, image.height))
    return Image.fromarray(whole) if isinstance(whole, np.ndarray) else whole


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an RGB image as uint8 (3, H, W), a label as (H, W)."""
    values = torch.from_numpy(np.array(image))
    return values.permute(2, 0, 1).contiguous() if values.ndim == 3 else values


def to_pil(values: torch.Tensor) -> Image.Image:
    """Return the image or label that `to_tensor` made `values` of."""
    return Image.fromarray((values.permute(1, 2, 0).contiguous() if values.ndim == 3 else values).numpy())
