import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from transforms import presets
from transforms.joint import RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.photometric import (
    BilateralBlur,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Normalize,
    Operation,
    Photometric,
    PillowBlur,
)
from transforms.pil import to_tensor
from transforms.protocols import PROTOCOLS


def picture(height=40, width=60):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    return image, Image.fromarray(rng.integers(0, 19, (height, width), np.uint8))


def kinds(transforms):
    return [type(transform) for transform in transforms]


def test_published_order():
    preset = presets.train(32, rrotate=10, color_aug=0.5, gblur=True)
    assert kinds(preset.joint) == [RandomScaleCrop, RandomHorizontalFlip, RandomRotate]
    assert kinds(preset.photometric.operations) == [ColorJitter, GaussianBlur]


def test_flags_switch_transforms():
    plain = presets.train(32)
    assert kinds(plain.joint) == [RandomScaleCrop, RandomHorizontalFlip]
    assert plain.photometric.operations == []
    assert kinds(presets.train(32, gblur=True, bblur=True).photometric.operations) == [BilateralBlur]


def test_train_gives_tensors():
    image, label = presets.train(32, color_aug=0.5, gblur=True)(*picture(), None, np.random.default_rng(0))
    assert image.shape == (3, 32, 32) and image.dtype == torch.float32
    assert label.shape == (32, 32) and label.dtype == torch.int64


def test_one_generator_gives_one_sample():
    preset = presets.train(32, rrotate=10, color_aug=0.5, gblur=True)
    first, second, other = (preset(*picture(), (5, 5), np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_val_keeps_every_pixel():
    picture_image, picture_label = picture()
    image, label = presets.val()(picture_image, picture_label, None, np.random.default_rng(0))
    assert torch.equal(image, Normalize()(to_tensor(picture_image).float()))
    assert np.array_equal(label, picture_label)
    assert presets.val()(picture_image, None, None, np.random.default_rng(0))[1] is None


def test_statistics_pairs():
    """The original is only normalized; the view has other colours; neither is cropped."""
    image, label = picture()
    pair, label = presets.statistics()(image, None, None, np.random.default_rng(0))
    assert pair.shape == (2, 3, 40, 60) and label is None
    assert torch.equal(pair[1], Normalize()(to_tensor(image).float())) and not torch.equal(pair[0], pair[1])
    own = presets.statistics(image_in=True)(image, None, None, np.random.default_rng(0))[0]
    assert own.mean((2, 3)).abs().max() < 1e-5


def test_a_statistics_pair_decodes_its_image_once():
    class StandIn:
        width, height, decoded = 60, 40, 0

        def crop(self, box):
            self.decoded += 1
            return picture()[0].crop(box)

    image = StandIn()
    presets.statistics()(image, None, None, np.random.default_rng(0))
    assert image.decoded == 1


def test_photometric_left_to_the_device():
    """Geometry is that of the CPU form, and what is drawn leads to the same image."""
    picture_image, picture_label = picture()
    options = {"color_aug": 0.5, "gblur": True}
    on_cpu = presets.train(32, **options)
    left = presets.train(32, **options, aug_device="gpu")
    expected_image, expected = on_cpu(picture_image, picture_label, None, np.random.default_rng(0))
    image, label, drawn = left(picture_image, picture_label, None, np.random.default_rng(0))
    assert image.dtype == torch.uint8 and image.shape == (3, 32, 32)
    assert label.dtype == torch.uint8 and torch.equal(label.long(), expected)
    assert {name: list(values) for name, values in drawn.items()} == {
        "ColorJitter": ["wanted", "amounts", "order"],
        "GaussianBlur": ["sigma"],
    }
    assert torch.equal(left.photometric(image[None], default_collate([drawn]))[0], expected_image)
    with pytest.raises(ValueError, match="--bblur .*CPU.* --aug_device gpu"):
        presets.train(32, bblur=True, aug_device="gpu")


def test_noise_of_the_student():
    """DA-SAC's published settings: blur of 0.1 to 2 px, strengths 0.4 and hue 0.1 half the time, grey."""
    jitter = {"low": (0.6, 0.6, 0.6, -0.1), "high": (1.4, 1.4, 1.4, 0.1), "p": 0.5}
    noise = presets.target_views((16, 32)).noise.operations
    assert [(type(operation), vars(operation)) for operation in noise] == [
        (PillowBlur, {"low": 0.1, "high": 2.0}),
        (ColorJitter, jitter),
        (Grayscale, {"p": 0.2}),
    ]


@pytest.fixture(scope="module")
def references():
    """Row 50 of 200 references of 100 x 200 px: black, grey 100, grey 200 and black, 50 px each."""
    bars = np.repeat(np.uint8([0, 100, 200, 0]), 50)[None, :, None].repeat(100, 0).repeat(3, 2)
    preset = presets.target_views((100, 200))
    images = [preset.reference(Image.fromarray(bars), np.random.default_rng(i)) for i in range(200)]
    assert {image.shape for image in images} == {(3, 100, 200)}
    return [image[0, 50] for image in images]


def test_a_reference_is_enlarged_by_up_to_a_tenth(references):
    """Both bars cover 100 to 110 columns, and up to 2 more that are a mixture with black."""
    widths = [int((row > 0).sum()) for row in references]
    assert 100 <= min(widths) <= 102 and 109 <= max(widths) <= 112


def test_the_position_of_a_reference_is_uniform(references):
    """The bars start at 50 to 55 px, less the 0 to 20 px that are cut off on the left."""
    starts = [int((row > 0).nonzero()[0, 0]) for row in references]
    assert 34 <= min(starts) <= 41 and 51 <= max(starts) <= 55


def test_a_reference_is_mirrored_half_the_time(references):
    first = [int(row[row.nonzero()[5, 0]]) for row in references]
    assert set(first) == {100, 200} and 70 < first.count(200) < 130


class Brighter(Operation):
    """Leaves grey levels between whole numbers and above 255."""

    def draw(self, rng):
        return {"by": 0.7}

    def apply(self, image, drawn):
        image.mul_(1.1).add_(drawn["by"])


def test_levels_between_whole_numbers_are_rounded_and_cut_off():
    """10 -> 11.7, 20 -> 22.7, 250 -> 275.7."""
    image = Image.fromarray(np.full((1, 3, 3), [[10], [20], [250]], np.uint8))
    preset = presets.levels(presets.Preset(PROTOCOLS["full"], Photometric([Brighter()])))
    values, _ = preset(image, None, None, np.random.default_rng(0))
    assert values.dtype == torch.uint8 and values[0].tolist() == [[12, 23, 255]]
