"""Common corruptions: each one's mean, deviation and PSNR by severity, derived from the published constants.

The constants are repeated here (arXiv 1903.12261 and its public implementation). x is the image in [0, 1].
"""

import math

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm, poisson

from transforms.corruptions import CORRUPTIONS, Corruption, corrupt
from transforms.corruptions.blur import disk, shuffled
from transforms.corruptions.convolution import convolve, motion_kernel
from transforms.corruptions.weather import plasma
from utils import variants

SEVERITIES = (1, 2, 3, 4, 5)
GREY = 128 / 255


def run(image, name, severity, seed=0):
    """Return what a uint8 image (H, W, 3) becomes, float in [0, 1]."""
    out = corrupt(image, name, severity, np.random.default_rng(seed))
    assert out.dtype == np.uint8 and out.shape == image.shape
    return out / 255


def constant(level=128, size=(240, 240)):
    return np.full((*size, 3), level, np.uint8)


def white_noise(size=(240, 240)):
    """Independent grey levels 28 to 228: standard deviation sqrt((201^2 - 1) / 12) = 58.02 levels."""
    return np.random.default_rng(7).integers(28, 229, (*size, 3), np.uint8)


def psnr(out, image):
    return -10 * math.log10(np.mean((out - image / 255) ** 2))


def test_names_are_those_of_the_command_line():
    assert tuple(CORRUPTIONS) == variants.COMMON + variants.EXTRA and len(variants.COMMON) == 15


# Noise on a constant image: the moments of the clipped distribution


def clipped_normal(deviation):
    """Return mean, standard deviation and mean square error of x + N(0, deviation), clipped to [0, 1]."""
    z = np.linspace(-8, 8, 160001)
    weight, value = norm.pdf(z) * (z[1] - z[0]), np.clip(GREY + deviation * z, 0, 1)
    mean = (weight * value).sum()
    return mean, math.sqrt((weight * (value - mean) ** 2).sum()), (weight * (value - GREY) ** 2).sum()


def clipped_poisson(photons):
    count = np.arange(400)
    weight, value = poisson.pmf(count, GREY * photons), np.minimum(count / photons, 1)
    mean = (weight * value).sum()
    return mean, math.sqrt((weight * (value - mean) ** 2).sum()), (weight * (value - GREY) ** 2).sum()


def impulses(share):
    """Return the same of salt and pepper: mean x (1 - p) + p / 2, and p/2 x^2 + p/2 (1 - x)^2."""
    error = share / 2 * (GREY**2 + (1 - GREY) ** 2)
    mean = GREY * (1 - share) + share / 2
    return mean, math.sqrt(error - (mean - GREY) ** 2), error


NOISE = {
    "gaussian_noise": (clipped_normal, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (clipped_poisson, (60, 25, 12, 5, 3)),
    "impulse_noise": (impulses, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": (lambda c: clipped_normal(c * GREY), (0.15, 0.2, 0.35, 0.45, 0.6)),
}


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", NOISE)
def test_noise(name, severity):
    """172,800 values: the standard errors are 0.25% of the deviation and below 0.04 dB."""
    moments, constants = NOISE[name]
    mean, deviation, error = moments(constants[severity - 1])
    out = run(constant(), name, severity)
    assert out.mean() == pytest.approx(mean, abs=0.004 * 1)
    assert out.std() == pytest.approx(deviation, rel=0.02)
    assert psnr(out, constant()) == pytest.approx(-10 * math.log10(error), abs=0.15)
    shape = out.shape[:2]
    correlation = np.corrcoef(out.reshape(-1, 3).T)[0, 1]
    assert abs(correlation) < 4 / math.sqrt(shape[0] * shape[1])  # channels are independent


def test_noise_by_hand():
    """Where almost nothing is clipped: PSNR = -20 log10 c, and x / c for shot noise."""
    assert clipped_normal(0.08)[2] == pytest.approx(0.08**2, rel=1e-3)  # 21.94 dB
    assert clipped_poisson(60)[1] == pytest.approx(math.sqrt(GREY / 60), rel=1e-3)  # 0.0915
    assert -10 * math.log10(impulses(0.03)[2]) == pytest.approx(21.25, abs=0.01)


def test_shot_noise_keeps_black_and_impulses_both_ends():
    assert not run(constant(0), "shot_noise", 5).any()
    out = run(constant(), "impulse_noise", 5)
    assert np.mean(out == 0) == pytest.approx(0.135, abs=0.005) == np.mean(out == 1)


# Blur of white noise: the mean stays, the deviation is times sqrt(sum of the squared weights)

DISKS = (29, 49, 113, 197, 317)  # points of the grid within 3, 4, 6, 8, 10 px (Gauss's circle problem)


class Fixed:
    """A random generator that always draws the same angle."""

    def __init__(self, angle):
        self.angle = angle

    def uniform(self, low, high):
        assert low <= self.angle <= high
        return self.angle


def blurred(name, severity, rng=None):
    noise = white_noise()
    out = corrupt(noise, name, severity, rng or np.random.default_rng(0)) / 255
    assert out.mean() == pytest.approx(noise.mean() / 255, abs=0.004)
    inner = out[45:-45, 45:-45]  # the border repeats pixels
    return math.sqrt(max(0, inner.std() ** 2 - 1 / 12 / 255**2)) / (58.02 / 255)  # without rounding to 8 bits


@pytest.mark.parametrize(("severity", "sigma"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6)])
def test_gaussian_blur(severity, sigma):
    """The squared weights of a Gaussian sum to 1 / (4 pi sigma^2)."""
    assert blurred("gaussian_blur", severity) == pytest.approx(
        1 / (2 * sigma * math.sqrt(math.pi)), rel=0.06 + 0.01 * sigma
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur(severity):
    """A disk of n points has 1 / n; a soft edge spreads the weights a little more."""
    expected = 1 / math.sqrt(DISKS[severity - 1])
    assert 0.86 * expected < blurred("defocus_blur", severity) < 1.06 * expected
    kernel = disk(*((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1])
    assert kernel.sum() == pytest.approx(1) and kernel.shape == ((17, 17) if severity < 5 else (21, 21))
    if severity == 1:
        assert sorted(set(kernel.round(12).ravel())) == [0, pytest.approx(1 / 29)]


# With s = sum exp(-i^2 / 2 sigma^2) = 1/2 + sigma sqrt(pi / 2) and q = sum exp(-i^2 / sigma^2) = 1/2 + sigma
# sqrt(pi) / 2, the squared weights sum to q / s^2. For sigma 12 and 15, s ends at 2.5 and 2.67 sigma.
MOTION = (0.1741, 0.1077, 0.0685, 0.0471, 0.0375)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur(severity):
    deviation = blurred("motion_blur", severity, Fixed(0))
    assert deviation == pytest.approx(math.sqrt(MOTION[severity - 1]), rel=0.04)


def test_motion_is_one_sided_and_its_steps_are_whole_pixels():
    """Half a Gaussian of sigma 3: the first weight is 1 / (1/2 + 3 sqrt(pi / 2)) = 0.2347."""
    dot = np.zeros((41, 41), np.float32)
    dot[20, 20] = 1
    level = convolve(dot, motion_kernel(10, 3, 0))
    assert level[20, 20] == pytest.approx(0.2347, abs=1e-4) and level[:20].max() < 1e-6
    assert level[20, :20].max() < 1e-6 < 0.2 < level[20, 21] < level[20, 20]
    steep = convolve(dot, motion_kernel(10, 3, 90))
    np.testing.assert_allclose(steep, level.T, atol=1e-6)


# Factors of the zooms, without the image itself: 1, 1 + step, ..
ZOOMS = ((11, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur(severity):
    """A ramp through the middle gets the slope of the mean of 1 / factor; the middle stays."""
    count, step = ZOOMS[severity - 1]
    slope = (1 + sum(1 / (1 + k * step) for k in range(count))) / (count + 1)
    ramp = np.array(np.broadcast_to((np.arange(240, dtype=np.uint8) + 8)[:, None, None], (240, 240, 3)))
    out = run(ramp, "zoom_blur", severity)[:, 120, 0] * 255
    expected = 127.5 + slope * (np.arange(240) - 119.5)
    np.testing.assert_allclose(out[2:-2], expected[2:-2], atol=0.7)


def one_by_one(size, shift, rounds, rng):
    """Swap pixels one after another."""
    height, width = size
    order = np.arange(height * width).reshape(size)
    for _ in range(rounds):
        moves = rng.integers(-shift, shift, (2, height * width), np.int64).reshape(2, height, width)
        for row in range(height - shift, shift, -1):
            for column in range(width - shift, shift, -1):
                dy, dx = moves[:, row, column]
                near = row + dy, column + dx
                order[row, column], order[near] = order[near], order[row, column]
    return order.ravel()


@pytest.mark.parametrize("size", [(20, 31), (31, 20), (9, 40), (12, 12), (3, 3), (1, 50)])
@pytest.mark.parametrize(("shift", "rounds"), [(1, 2), (2, 1), (2, 3), (3, 2), (4, 2)])
def test_glass_swaps_are_those_of_single_steps(size, shift, rounds):
    fast = shuffled(size, shift, rounds, np.random.default_rng(3))
    expected = one_by_one(size, shift, rounds, np.random.default_rng(3))
    np.testing.assert_array_equal(fast, expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_moves_pixels_and_keeps_the_mean(severity):
    """On a ramp of one level per pixel, rounds of swaps by up to `shift` px leave a deviation of that size.

    A swap moves a pixel by a number uniform in -d .. d - 1, of mean square (2 d^2 + 1) / 6. Pixels swap about
    twice per round, once in their own turn. The last blur averages the moves of about 4 pi sigma^2 pixels.
    """
    sigma, shift, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(240, dtype=np.uint8)[None, :, None], (240, 240, 3)))
    out = run(ramp, "glass_blur", severity) * 255
    assert out.mean() == pytest.approx(119.5, abs=0.6)
    moved = math.sqrt((2 * shift**2 + 1) / 6 * 2 * rounds / (4 * math.pi * sigma**2))
    assert (out - ramp)[30:-30, 30:-30].std() == pytest.approx(moved, rel=0.35)


# Weather


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog(severity):
    """A constant x becomes (x + s p) x / (x + s) with p from 0 to 1: from x^2 / (x + s) to x."""
    strength = (1.5, 2, 2.5, 2.5, 3)[severity - 1]
    out = run(constant(size=(256, 256)), "fog", severity)
    assert out.max() == pytest.approx(GREY, abs=0.003)
    assert out.min() == pytest.approx(GREY**2 / (GREY + strength), abs=0.003)
    assert np.ptp(out, axis=2).max() == 0  # fog is grey
    middle = (out.min() + out.max()) / 2
    assert abs(out.mean() - middle) < 0.35 * (out.max() - out.min())


def test_plasma_is_rougher_with_less_decay_and_has_no_border():
    fields = [plasma(200, decay, np.random.default_rng(0)) for decay in (2, 1.4)]
    steps = [np.abs(np.diff(field)).mean() / field.std() for field in fields]
    assert all(field.shape == (256, 256) for field in fields) and steps[1] > 2 * steps[0]
    for field in fields:
        seam = np.abs(field[:, 0] - field[:, -1]).mean()
        assert seam == pytest.approx(np.abs(np.diff(field)).mean(), rel=0.6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness(severity):
    """Grey x becomes x + c; a colour keeps the ratios of its channels until its value is 1."""
    c = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    out = run(constant(102), "brightness", severity)
    assert out.mean() == pytest.approx(0.4 + c, abs=0.002) and np.ptp(out) == 0
    assert psnr(out, constant(102)) == pytest.approx(-20 * math.log10(c), abs=0.2)
    color = np.full((4, 4, 3), (51, 102, 0), np.uint8)
    expected = [(0.4 + c) / 2, 0.4 + c, 0]
    np.testing.assert_allclose(run(color, "brightness", severity)[0, 0], expected, atol=0.003)
    np.testing.assert_allclose(run(constant(0), "brightness", severity)[0, 0], c, atol=0.003)
    assert run(constant(250), "brightness", severity).min() == 1


SNOW = (  # mean, deviation, zoom, threshold, ..., share of the image that stays
    (0.1, 0.3, 3, 0.5, 0.8),
    (0.2, 0.3, 2, 0.5, 0.7),
    (0.55, 0.3, 4, 0.9, 0.7),
    (0.55, 0.3, 4.5, 0.85, 0.65),
    (0.55, 0.3, 2.5, 0.85, 0.55),
)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow(severity):
    """Black becomes (1 - mix) / 2 plus two layers that are each other turned by half a turn.

    A linear zoom leaves on average (2/3)^2 of the variance of the drawn field, between 1/4 and 1 of it. The
    mean of a layer is that of the drawn values above the threshold, and lies between those of 1/4 and 1.
    """
    mean, deviation, _, threshold, kept = SNOW[severity - 1]
    base = (1 - kept) / 2
    out = run(constant(0), "snow", severity)
    np.testing.assert_allclose(out, out[::-1, ::-1], atol=1.01 / 255)
    assert out.min() == pytest.approx(base, abs=0.003) or severity == 5 and out.min() < base + 0.02

    def layer(share):
        z = np.linspace(-8, 8, 16001)
        value = np.clip(mean + math.sqrt(share) * deviation * z, 0, 1)
        return (norm.pdf(z) * value * (value >= threshold)).sum() * (z[1] - z[0])

    least, most = sorted((layer(1 / 4), layer(1)))
    assert base + 2 * least < out.mean() < base + 2 * most + 0.003
    assert out.mean() == pytest.approx(base + 2 * layer(4 / 9), rel=0.3)


def test_snow_whitens_the_image():
    """Where no flake is, white stays white, and grey x = 0.4 becomes mix x + (1 - mix) (1.5 x + 0.5)."""
    out = run(constant(102), "snow", 1)
    assert out.min() == pytest.approx(0.8 * 0.4 + 0.2 * 1.1, abs=0.004)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost(severity):
    """The image times one weight plus the same pane times another; the pane itself is our own."""
    weight, share = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    black, grey = (run(constant(level), "frost", severity) for level in (0, 51))
    assert (grey - black).mean() == pytest.approx(0.2 * weight, abs=0.003)
    assert 0.25 * share < black.mean() < 0.65 * share and black.std() > 0.05 * share
    other = run(constant(0), "frost", severity, seed=1)
    assert np.abs(other - black).mean() > 0.02  # another part of the pane


def test_a_pane_for_larger_images():
    out = run(constant(0, (1300, 30)), "frost", 1)
    assert out.any(axis=(1, 2)).all()


# Digital


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast(severity):
    c = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    noise = white_noise()
    noise[..., 0] //= 2
    out = run(noise, "contrast", severity)
    np.testing.assert_allclose(out.mean((0, 1)), noise.mean((0, 1)) / 255, atol=0.002)
    np.testing.assert_allclose(out.std((0, 1)), c * noise.std((0, 1)) / 255, atol=0.0012)
    expected = -20 * math.log10((1 - c) * math.sqrt(np.mean(noise.std((0, 1)) ** 2)) / 255)
    assert psnr(out, noise) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform(severity):
    """On a ramp, the deviation is that of the displacement.

    The field has a deviation of 0.005 H / sqrt(3), times sqrt(1 / (4 pi sigma^2)) with sigma 0.01 H after the
    Gaussian, times 250 c. H cancels: 250 c / (4 sqrt(3 pi)) = 20.36 c px.
    """
    c = (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1]
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 256, 3))
    errors = []
    for image, seed in ((ramp, 0), (ramp.transpose(1, 0, 2), 1)):
        image = np.ascontiguousarray(image)
        errors.append((run(image, "elastic_transform", severity, seed) * 255 - image)[12:-12, 12:-12])
    assert np.std(errors) == pytest.approx(20.36 * c, rel=0.06)
    assert np.mean(errors) == pytest.approx(0, abs=0.12 * 20.36 * c)


# Pillow's boxes have whole numbers of pixels: 5/3 is 2, 1, 2 px in turn, 5/2 is 2, 3, 10/3 is 3, 4, 3. A box
# of n px along an axis leaves 1 / n of the variance and covers n px of the result. So the mean is the factor
# itself, a little more for 5/2, where ties decide which box is larger.
SIDES = (0.6, 0.5, 0.4, 0.3, 0.25)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate(severity):
    out, noise = run(white_noise(), "pixelate", severity), white_noise()
    assert out.mean() == pytest.approx(noise.mean() / 255, abs=0.003)
    side = SIDES[severity - 1]
    assert out.std() == pytest.approx(side * 58.02 / 255, rel=0.045)
    assert len(np.unique(out[:, :, 0], axis=0)) == round(240 * side)


# The DC coefficient of a constant block is 8 (x - 128). The tables of quality 25, 18, 15, 10, 7 quantize it
# by 16 times 5000 / quality percent: 32, 44, 53, 80, 114, so levels are 4, 5.5, 6.625, 10, 14.25 apart.
@pytest.mark.parametrize(("severity", "level"), [(1, 132), (2, 133.5), (3, 128), (4, 128), (5, 128)])
def test_jpeg_compression(severity, level):
    out = run(constant(131, (64, 64)), "jpeg_compression", severity)
    assert out.mean() * 255 == pytest.approx(level, abs=0.51) and np.ptp(out) == 0


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate(severity):
    """Of value 0.8 and saturation 0.5: the lowest channel is 0.8 (1 - s), the middle one half-way up."""
    a, b = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    s = min(0.5 * a + b, 1)
    color = np.full((4, 4, 3), (102, 204, 153), np.uint8)
    expected = [0.8 * (1 - s), 0.8, 0.8 * (1 - s / 2)]
    np.testing.assert_allclose(run(color, "saturate", severity)[0, 0], expected, atol=0.003)
    grey = [0.4, 0.4 * (1 - b), 0.4 * (1 - b)]
    np.testing.assert_allclose(run(constant(102), "saturate", severity)[0, 0], grey, atol=0.003)


# All of them


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_and_every_severity(name):
    for size in ((33, 47), (5, 70), (1, 1)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        before = image.copy()
        for severity in SEVERITIES:
            run(image, name, severity)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_chance_comes_from_the_name_of_the_image(name):
    image = Image.fromarray(white_noise((40, 60)))
    first, again, other = (
        np.asarray(Corruption(name, 3)(image, image_name)) for image_name in ("a/1", "a/1", "a/2")
    )
    np.testing.assert_array_equal(first, again)
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert (first == other).all() == (name in fixed | {"gaussian_blur", "saturate"})


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"saturate", "snow", "frost", "glass_blur"}))
def test_a_higher_severity_is_farther_from_the_image(name):
    """The exceptions: saturate changes direction; the constants of snow, frost and glass are not ordered."""
    image = np.asarray(Image.fromarray(white_noise((12, 16))).resize((160, 120), Image.Resampling.BICUBIC))
    values = [psnr(run(image, name, severity), image) for severity in SEVERITIES]
    assert all(a >= b - 0.3 for a, b in zip(values, values[1:], strict=False)), values
    assert values[0] > values[-1] + 1
