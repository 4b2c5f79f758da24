import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torch.utils.data import default_collate
from torchvision.transforms import functional as TF

from transforms.photometric import (
    BilateralBlur,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    Normalize,
    Operation,
    Photometric,
    PillowBlur,
    blurred,
    gaussian_weights,
)
from transforms.pil import to_tensor


def noise(height=20, width=30, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)
    return torch.from_numpy(values).float()


@pytest.fixture
def image():
    return noise()


def rng(seed=0):
    return np.random.default_rng(seed)


def test_jitter_draws_within_its_ranges():
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5)
    draws = [draw for draw in (jitter.draw(rng(i)) for i in range(1000)) if draw["wanted"]]
    assert 430 < len(draws) < 570
    amounts = np.array([draw["amounts"].tolist() for draw in draws])
    assert (amounts.min(0) >= [0.6, 0.6, 0.6, -0.1]).all() and (amounts.max(0) <= [1.4, 1.4, 1.4, 0.1]).all()
    assert (amounts.min(0) < [0.65, 0.65, 0.65, -0.09]).all() and (
        amounts.max(0) > [1.35, 1.35, 1.35, 0.09]
    ).all()
    assert len({tuple(draw["order"].tolist()) for draw in draws}) == 24  # every order
    assert ColorJitter(1.5, 0, 0, 0).draw(rng())["amounts"].min() >= 0


def test_jitter_without_strength_changes_nothing(image):
    still = ColorJitter(0, 0, 0, 0)(image.clone(), rng())
    assert (still - image).abs().max() <= 8  # the way to 8-bit HSV and back rounds
    assert not torch.equal(ColorJitter(0.8, 0.8, 0.8, 0.3)(image.clone(), rng()), image)
    assert torch.equal(ColorJitter(0.4, 0.4, 0.4, 0.1, p=0)(image.clone(), rng()), image)


def test_jitter_is_what_torchvision_does(image):
    """In the order and with the amounts drawn, except for the hues that Pillow rounds wrong (see below)."""
    pillow = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.3)
    for seed in range(20):
        expected = Image.fromarray(image.byte().permute(1, 2, 0).numpy())
        drawn = jitter.draw(rng(seed))
        for kind in drawn["order"].tolist():
            expected = pillow[kind](expected, drawn["amounts"][kind].item())
        difference = jitter(image.clone(), rng(seed)) - to_tensor(expected).float()
        assert (difference.abs() > 0).float().mean() <= 0.01 and difference.abs().max() <= 6


def cube():
    """Every 3rd value of each channel, all combinations."""
    values = np.arange(0, 256, 3, dtype=np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(values, values, values), -1).reshape(86, -1, 3))


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("amount", [0.05, 0.7, 1.0, 1.3])
def test_adjustments_are_those_of_pillow(kind, amount):
    pillow = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)[kind]
    ours = ColorJitter.ADJUST[kind](to_tensor(cube()).float(), amount)
    assert torch.equal(ours, to_tensor(pillow(cube(), amount)).float())


@pytest.mark.parametrize("amount", [-0.375, -0.05, 0.0, 0.1, 0.25])
def test_hue_in_whole_numbers(amount):
    """All of it in integers; Pillow's floats sometimes miss a quotient that is a whole number."""
    red, green, blue = np.asarray(cube()).astype(int).reshape(-1, 3).T
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    c = np.maximum(chroma, 1)
    sixths = np.select(
        [red == value, green == value], [green - blue, 2 * c + blue - red], 4 * c + red - green
    )  # times c
    hue = (85 * sixths // (2 * c) + 255 * (sixths < 0) + int(amount * 255)) % 256
    saturation = 255 * chroma // np.maximum(value, 1)
    shares = [np.clip(510 - abs(6 * hue - 3 * 255), 0, 255)]  # of the chroma, times 255
    shares += [np.clip(abs(6 * hue - middle * 255) - 255, 0, 255) for middle in (2, 4)]
    expected = [
        (2 * 255**2 * value - 2 * value * saturation * share + 255**2) // (2 * 255**2) for share in shares
    ]
    ours = ColorJitter.ADJUST[3](to_tensor(cube()).float(), amount).flatten(1)
    np.testing.assert_array_equal(ours, expected)
    difference = abs(ours.numpy() - to_tensor(TF.adjust_hue(cube(), amount)).flatten(1).numpy())
    assert (difference > 0).mean() < 0.002 and difference.max() <= 6  # one step of hue is 6 grey levels


@pytest.mark.parametrize("sigma", [0.15, 0.7, 1.3])
@pytest.mark.parametrize("height", [20, 400])  # less and more than is worked on at a time
def test_gaussian_blur_is_that_of_scipy_in_double_precision(sigma, height):
    image = noise(height)
    blurred = GaussianBlur(sigma, sigma)(image.clone(), rng()).double().numpy()
    exact = gaussian_filter(image.double().numpy(), (0, sigma, sigma), mode="nearest", truncate=4)
    assert abs(blurred - exact).max() <= 0.501
    if sigma == 0.15:
        assert np.array_equal(blurred, image)  # exp(-1 / (2 * 0.15^2)) is 2e-10


def test_rows_worked_on_at_a_time_do_not_show():
    """Hue, saturation and contrast of an image of 400 rows are those of its turned self, 30 rows high."""
    for kind, amount in ((1, 1.3), (2, 0.6), (3, 0.1)):
        high = noise(400)
        turned = ColorJitter.ADJUST[kind](high.transpose(1, 2).clone(), amount)
        assert torch.equal(ColorJitter.ADJUST[kind](high, amount), turned.transpose(1, 2))


def test_bilateral_blur_smooths_flat_parts_and_keeps_edges():
    """A step of 240 with noise of 4: the range sigma is about 120, the step a distance of 240 * sqrt(3)."""
    values = torch.full((3, 20, 20), 5.0)
    values[:, :, 10:] = 245
    values[:, ::2, ::2] -= 4
    blurred = BilateralBlur(0.75, 0.75)(values.clone(), rng())
    assert blurred[..., :10].std() < 0.6 * values[..., :10].std()
    assert blurred[..., :10].max() < 12 and blurred[..., 10:].min() > 235


def test_bilateral_blur_by_hand():
    """One row of three pixels 0, 100, 255 (grey), variance 99050 / 9 (not / 8), sigma 0.75; the first pixel.

    Rows repeat, so sums over them cancel. Weights along x: exp(-d^2 / 1.125) at distance d <= ceil(2.25) = 3,
    times exp(-3 * 100^2 / (2 * 99050 / 9)) = exp(-1.363) for 100; that of 255 is below 0.0002. To the left
    the border repeats.
    """
    near, far, farther = np.exp(-np.array([1, 4, 9]) / 1.125)
    unlike = near * np.exp(-3 * 100**2 / (2 * 99050 / 9))
    expected = 100 * unlike / (1 + near + far + farther + unlike)
    assert 6.8 < expected < 6.9  # 7.8 with / 8
    image = torch.tensor([0.0, 100.0, 255.0]).expand(3, 1, 3).clone()
    assert BilateralBlur(0.75, 0.75)(image, rng())[:, 0, 0].tolist() == [7.0] * 3


@pytest.mark.parametrize("blur", [GaussianBlur, BilateralBlur])
def test_blur_leaves_a_flat_image_alone(blur):
    flat = torch.tensor([3.0, 100.0, 250.0])[:, None, None].expand(3, 7, 9).clone()
    assert torch.equal(blur()(flat.clone(), rng()), flat)


def test_grayscale(image):
    gray = np.asarray(Image.fromarray(image.byte().permute(1, 2, 0).numpy()).convert("L"))
    assert torch.equal(Grayscale(0.0)(image.clone(), rng()), image)
    for channel in Grayscale(1.0)(image.clone(), rng()):
        np.testing.assert_array_equal(channel, gray)


def test_normalize_imagenet():
    """255 is 1: (1 - 0.485) / 0.229 = 2.2489; 0 in green: -0.456 / 0.224 = -2.0357."""
    red = torch.tensor([255.0, 0.0, 0.0])[:, None, None].expand(3, 1, 2).clone()
    assert Normalize()(red)[:2, 0, 0].tolist() == pytest.approx([2.2489, -2.0357], abs=1e-4)


def test_normalize_per_image():
    """Values 0 and 1: mean 0.5, unbiased std sqrt(0.5), so +-0.5 / 0.70711; a flat channel is 0."""
    image = torch.tensor([[[0.0, 255.0]], [[7.0, 7.0]], [[7.0, 7.0]]])
    tensor = Normalize(per_image=True)(image)
    assert tensor[0].flatten().tolist() == pytest.approx([-0.5 / (0.5**0.5 + 1e-5), 0.5 / (0.5**0.5 + 1e-5)])
    assert tensor[1:].abs().max() < 1e-3


class Offset(Operation):
    """A new operation, which draws a number and a tensor."""

    def draw(self, rng):
        return {"strength": rng.uniform(0, 1), "offset": torch.from_numpy(rng.uniform(0, 20, 3))}

    def apply(self, image, drawn):
        image.add_(drawn["offset"].float()[:, None, None], alpha=drawn["strength"])


OPERATIONS = {
    "training": [ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), GaussianBlur()],
    "all": [Grayscale(0.5), GaussianBlur(), BilateralBlur(), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5)],
    "a new one": [ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), Offset(), GaussianBlur()],
}


@pytest.mark.parametrize("operations", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("per_image", [False, True])
def test_batched_form_is_the_operations_one_after_the_other(per_image, operations):
    batched = Photometric(operations, per_image)
    images = torch.stack([noise(seed=i) for i in range(8)])
    draws = [batched.draw(rng(i)) for i in range(8)]
    assert list(draws[0]) == [type(operation).__name__ for operation in operations]
    drawn = default_collate(draws)
    sigmas = drawn["GaussianBlur"]["sigma"]
    assert sigmas.shape == (8,) and len(sigmas.unique()) == 8
    together = batched(images.byte(), drawn)
    for i, image in enumerate(images):
        generator, expected = rng(i), image.clone()
        for operation in operations:
            expected = operation(expected, generator)
        assert torch.equal(together[i], Normalize(per_image)(expected))
        assert torch.equal(together[i], batched.apply(image, draws[i]))


def test_batched_form_without_operations(image):
    still = Photometric()
    batch = still(image.byte()[None], default_collate([still.draw(rng())]))
    assert torch.equal(batch[0], Normalize()(image))


def test_two_operations_of_one_class_are_an_error():
    with pytest.raises(ValueError, match="GaussianBlur"):
        Photometric([GaussianBlur(), GaussianBlur(1, 2)])


@pytest.mark.parametrize("radius", [0.1, 0.3, 1.1, 2.0])
def test_pillows_blur_is_pillows(radius):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float()
    blur = PillowBlur(radius, radius)
    blur.apply(image, blur.draw(np.random.default_rng(0)))
    expected = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_many_images_blurred_at_once():
    """Each with its own sigma, whose kernels have 1, 5 and 11 px; rounding differs by less than 1e-3."""
    sigmas = [0.11, 0.5, 1.30]
    images = torch.from_numpy(rng(0).integers(0, 256, (3, 3, 20, 30)).astype(np.float32))
    for image, sigma, batched in zip(images, sigmas, blurred(images, sigmas), strict=True):
        weights, alone = gaussian_weights(sigma), image.clone()
        GaussianBlur().apply(alone, {"sigma": sigma})
        assert len(weights) == 2 * int(4 * sigma + 0.5) + 1
        assert (batched - alone).abs().max() < 0.5 + 1e-3 and (batched.round() != alone).float().mean() < 1e-2
