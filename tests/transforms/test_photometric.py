import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as TF

from transforms.photometric import (
    TENSOR_ADJUST,
    BilateralBlur,
    ColorJitter,
    GaussianBlur,
    Normalize,
    Photometric,
    channel_by_value,
    shift_hue,
    to_tensor,
)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


def rng(seed=0):
    return np.random.default_rng(seed)


def test_jitter_draws_within_its_ranges():
    jitter = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5)
    draws = [jitter.draw(rng(i)) for i in range(1000)]
    applied = [dict(draw) for draw in draws if draw]
    assert 430 < len(applied) < 570
    amounts = np.array([[draw[i] for i in range(4)] for draw in applied])
    assert (amounts.min(0) >= [0.6, 0.6, 0.6, -0.1]).all() and (amounts.max(0) <= [1.4, 1.4, 1.4, 0.1]).all()
    assert (amounts.min(0) < [0.65, 0.65, 0.65, -0.09]).all() and (
        amounts.max(0) > [1.35, 1.35, 1.35, 0.09]
    ).all()
    assert len({tuple(draw) for draw in applied}) == 24  # every order
    assert min(amount for _, amount in ColorJitter(1.5, 0, 0, 0).draw(rng())) >= 0


def test_jitter_without_strength_changes_nothing(image):
    still = np.asarray(ColorJitter(0, 0, 0, 0)(image, rng()), int)
    assert abs(still - np.asarray(image)).max() <= 8  # the way to 8-bit HSV and back rounds
    assert not np.array_equal(ColorJitter(0.8, 0.8, 0.8, 0.3)(image, rng()), image)
    assert ColorJitter(0.4, 0.4, 0.4, 0.1, p=0)(image, rng()) is image


@pytest.mark.parametrize("sigma", [0.15, 0.7, 1.3])
def test_gaussian_blur_is_that_of_scipy_in_double_precision(image, sigma):
    blurred = np.asarray(GaussianBlur(sigma, sigma)(image, rng()), float)
    exact = gaussian_filter(np.asarray(image, float), (sigma, sigma, 0), mode="nearest", truncate=4)
    assert abs(blurred - exact).max() <= 0.501
    if sigma == 0.15:
        assert np.array_equal(blurred, image)  # exp(-1 / (2 * 0.15^2)) is 2e-10


def test_bilateral_blur_smooths_flat_parts_and_keeps_edges():
    """A step of 240 with noise of 4: the range sigma is about 120, the step a distance of 240 * sqrt(3)."""
    values = np.full((20, 20, 3), 5, np.uint8)
    values[:, 10:] = 245
    values[::2, ::2] -= 4
    blurred = np.asarray(BilateralBlur(0.75, 0.75)(Image.fromarray(values), rng()), int)
    assert blurred[:, :10].std() < 0.6 * values[:, :10].std()
    assert blurred[:, :10].max() < 12 and blurred[:, 10:].min() > 235


def test_bilateral_blur_by_hand():
    """One row of three pixels 0, 0, 90 (grey): variance of 0, 0, 90 is 1800, sigma 0.5; the middle pixel.

    Rows repeat, so sums over them cancel. Weights along x: 1 for itself, exp(-1 / (2 * 0.25)) = exp(-2) for
    the left one, times exp(-3 * 90^2 / (2 * 1800)) = exp(-6.75) for the right one; at distance 2, where the
    border repeats, exp(-8) in place of exp(-2).
    """
    near, far = np.exp(-2.0), np.exp(-8.0)
    unlike = (near + far) * np.exp(-6.75)
    expected = 90 * unlike / (1 + near + far + unlike)
    image = Image.fromarray(np.repeat(np.array([[[0], [0], [90]]], np.uint8), 3, axis=2))
    assert np.asarray(BilateralBlur(0.5, 0.5)(image, rng()))[0, 1].tolist() == [round(expected)] * 3


@pytest.mark.parametrize("blur", [GaussianBlur, BilateralBlur])
def test_blur_leaves_a_flat_image_alone(blur):
    flat = Image.new("RGB", (9, 7), (3, 100, 250))
    assert np.array_equal(blur()(flat, rng()), flat)


def test_normalize_imagenet():
    """255 is 1: (1 - 0.485) / 0.229 = 2.2489; 0 in green: -0.456 / 0.224 = -2.0357."""
    tensor = Normalize()(Image.new("RGB", (2, 1), (255, 0, 0)))
    assert tensor.shape == (3, 1, 2) and tensor.dtype == torch.float32
    assert tensor[:2, 0, 0].tolist() == pytest.approx([2.2489, -2.0357], abs=1e-4)


def test_normalize_per_image():
    """Values 0 and 1: mean 0.5, unbiased std sqrt(0.5), so +-0.5 / 0.70711; a flat channel is 0."""
    image = Image.fromarray(np.array([[[0, 7, 7], [255, 7, 7]]], np.uint8))
    tensor = Normalize(per_image=True)(image)
    assert tensor[0].flatten().tolist() == pytest.approx([-0.5 / (0.5**0.5 + 1e-5), 0.5 / (0.5**0.5 + 1e-5)])
    assert tensor[1:].abs().max() < 1e-3


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("amount", [0.05, 0.7, 1.0, 1.3])
def test_tensor_adjustments_are_those_of_pil(kind, amount):
    """Every 3rd value of each channel, all combinations; hue may be one level off (6 colours in 10^6)."""
    values = np.arange(0, 256, 3, dtype=np.uint8)
    cube = Image.fromarray(np.stack(np.meshgrid(values, values, values), -1).reshape(86, -1, 3))
    amount = (amount - 0.8) / 2 if kind == 3 else amount
    expected = to_tensor(ColorJitter.ADJUST[kind](cube, amount)).float()
    difference = (TENSOR_ADJUST[kind](to_tensor(cube).float(), amount) - expected).abs()
    assert difference.max() <= (kind == 3) and (difference > 0).float().mean() < 1e-4


@pytest.mark.parametrize("per_image", [False, True])
def test_batched_form_follows_the_pil_form(per_image):
    """The same generator gives the same pictures, image by image, but for a rounded grey level (0.018)."""
    jitter, blur = ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), GaussianBlur()
    batched = Photometric(jitter, blur, per_image)
    images = [Image.fromarray(rng(i).integers(0, 256, (20, 30, 3), np.uint8)) for i in range(8)]
    drawn = torch.stack([batched.draw(rng(i)) for i in range(8)])
    assert drawn.shape == (8, Photometric.DRAWN) and len({tuple(row) for row in drawn.tolist()}) == 8
    together = batched(torch.stack([to_tensor(image) for image in images]), drawn)
    for i, image in enumerate(images):
        generator = rng(i)
        alone = Normalize(per_image)(blur(jitter(image, generator), generator))
        assert (together[i] - alone).abs().max() < 0.025
        assert ((together[i] - alone).abs() > 0.002).float().mean() < 0.01


def test_batched_form_without_jitter_and_blur(image):
    still = Photometric(None, None)
    batch = still(to_tensor(image)[None], still.draw(rng())[None])
    assert torch.equal(batch[0], Normalize()(image))


def test_hue_from_tables():
    """Pillow's own way back from HSV, for every hue, saturation and value; then the whole shift."""
    hue, saturation, value = np.mgrid[:256, :256, :256].astype(np.uint8)
    channels = [Image.fromarray(channel.reshape(4096, 4096)) for channel in (hue, saturation, value)]
    pillow = np.asarray(Image.merge("HSV", channels).convert("RGB"))
    index = hue.astype(np.intp).ravel() << 8 | saturation.ravel()
    for channel, factors in enumerate(channel_by_value()):
        ours = factors.take(index) * value.ravel() + np.float32(0.5)
        np.testing.assert_array_equal(ours.astype(np.uint8), pillow[..., channel].ravel())
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))
    for amount in (-0.1, 0.0, 0.031, 0.5):
        np.testing.assert_array_equal(shift_hue(image, amount), TF.adjust_hue(image, amount))
