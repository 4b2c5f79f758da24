import numpy as np
import torch
from PIL import Image

from transforms.pil import pixels, to_pil, to_tensor


class StandIn:
    """An image whose crops are arrays."""

    width, height = 5, 4

    def crop(self, box):
        left, top, right, bottom = box
        return np.arange(20, dtype=np.uint8).reshape(4, 5)[top:bottom, left:right]


def test_channels_come_first():
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    image, label = Image.fromarray(values), Image.fromarray(values[..., 0])
    assert torch.equal(to_tensor(image), torch.from_numpy(values.transpose(2, 0, 1).copy()))
    assert to_tensor(image).is_contiguous()
    assert torch.equal(to_tensor(label), torch.from_numpy(values[..., 0].copy()))


def test_there_and_back():
    values = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    for image in (Image.fromarray(values), Image.fromarray(values[..., 0])):
        assert to_pil(to_tensor(image)) == image


def test_pixels_of_images_and_stand_ins():
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    assert pixels(image) == image
    assert np.asarray(pixels(StandIn())).ravel().tolist() == list(range(20))
