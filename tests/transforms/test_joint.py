import numpy as np
import pytest
import torch
from PIL import Image

from transforms.joint import RandomHorizontalFlip, RandomRotate, RandomScaleCrop
from transforms.pil import to_tensor


def coordinates(height, width):
    """An image whose red is x, green y, blue 200, and a label that is x (both below 255)."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 200)], -1)), Image.fromarray(x)


def test_the_crop_always_contains_the_centroid():
    """Its px of the resized image is cut off as published (golden/test_f5_crops.py), within the image."""
    rng = np.random.default_rng(0)
    for i in range(400):
        height, width, side = rng.integers(1, 120, 3).tolist()
        centroid = x, y = int(rng.integers(width)), int(rng.integers(height))
        scale = 1.0 if i % 2 else rng.uniform(0.3, 2.5)
        crop = RandomScaleCrop(side, scale, scale, nopad=bool(rng.integers(2)))
        window = crop.draw(height, width, centroid, rng)
        left, top, right, bottom = window.inside
        assert left <= min(int(scale * x), window.width - 1) < right
        assert top <= min(int(scale * y), window.height - 1) < bottom
        label = np.zeros((height, width), np.uint8)
        label[y, x] = 7
        cropped = crop.apply_to_label(Image.fromarray(label), window)
        if scale == 1 and window.side == side:
            assert (np.asarray(cropped) == 7).any()


@pytest.mark.parametrize("centroid, expected", [(None, range(0, 7)), (0, [0]), (9, [6]), (5, range(2, 6))])
def test_every_allowed_offset_is_drawn(centroid, expected):
    """Crop 4 of 10 px: offsets 0..6; those that contain pixel 5 are 2..5, each as often as the others.

    Those that contain pixel 0 or 9 are moved into the image, where one is left.
    """
    crop, rng = RandomScaleCrop(4, 1, 1), np.random.default_rng(0)
    point = None if centroid is None else (centroid, centroid)
    windows = [crop.draw(10, 10, point, rng) for _ in range(2000)]
    for offsets in ([w.left for w in windows], [w.top for w in windows]):
        values, counts = np.unique(offsets, return_counts=True)
        assert values.tolist() == list(expected)
        assert counts.min() > 0.8 * 2000 / len(expected)


def test_image_and_label_stay_aligned():
    """Smooth coordinates survive bicubic resizing: red is the label where that is not 255."""
    image, label = coordinates(60, 100)
    transforms = [RandomScaleCrop(48, 0.5, 2.0), RandomHorizontalFlip(), RandomRotate(20)]
    rng = np.random.default_rng(0)
    for _ in range(60):
        x, y = image, label
        for transform in transforms:
            x, y = transform(x, y, None, rng)
        assert x.shape == (3, 48, 48) and y.shape == (48, 48)
        red, x_coordinate = x[0].int(), y.int()
        inside = x_coordinate != 255
        assert inside.any()
        # a border between picture and padding may blur red by any amount: rotation mixes it with black
        assert ((red - x_coordinate)[inside].abs() <= 3).float().mean() > 0.9


def resized_then_cropped(image, window, crop_size, resample, fill):
    """Do with Pillow what RandomScaleCrop does."""
    resized = image.resize((window.width, window.height), resample)
    crop = Image.new(image.mode, (window.side, window.side), fill)
    crop.paste(resized, (-window.left, -window.top))
    return crop if window.side == crop_size else crop.resize((crop_size, crop_size), resample)


def test_windows_are_those_of_the_whole_image_resized():
    """Every pixel, over sizes from 1 px on, scales, crops at every border, padding, pre_size and nopad."""
    rng = np.random.default_rng(0)
    for i in range(600):
        height, width, side = rng.integers(1, 200, 3).tolist()
        if i % 10 == 0:  # more than twice as high as wide, the case Pillow 13 treats otherwise
            width = height // 3 + 1
        values = rng.choice((0, 255) if i % 2 else 256, (height, width, 3)).astype(np.uint8)
        image, label = Image.fromarray(values), Image.fromarray(values[..., 0])
        pre_size = int(rng.integers(1, 200)) if i % 3 == 0 else None
        crop = RandomScaleCrop(side, 0.25, 2.5, pre_size=pre_size, nopad=i % 4 == 0)
        window = crop.draw(height, width, (width - 1, 0) if i % 5 == 0 else None, rng)
        expected = resized_then_cropped(image, window, side, Image.Resampling.BICUBIC, (0, 0, 0))
        assert torch.equal(crop.apply(image, window), to_tensor(expected)), (image.size, window)
        expected = resized_then_cropped(label, window, side, Image.Resampling.NEAREST, 255)
        assert torch.equal(crop.apply_to_label(label, window), to_tensor(expected)), (label.size, window)


def test_windows_of_a_street_image():
    """Full size, where 32-bit coordinates would show: GTAV's odd width, both ends of the scales."""
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (1052, 1914, 3), np.uint8))
    for scale in (0.5, 1.0, 1.37, 2.0):
        crop = RandomScaleCrop(768, scale, scale)
        window = crop.draw(image.height, image.width, None, rng)
        expected = resized_then_cropped(image, window, 768, Image.Resampling.BICUBIC, (0, 0, 0))
        assert torch.equal(crop.apply(image, window), to_tensor(expected))


def test_padding_is_black_and_ignored():
    """6x4 px in a crop of 9: 2 rows above and 3 below, 1 column left and 2 right of it."""
    image, label = coordinates(4, 6)
    image, label = RandomScaleCrop(9, 1, 1)(image, label, (0, 0), np.random.default_rng(0))
    inside = np.zeros((9, 9), bool)
    inside[2:6, 1:7] = True
    assert (label[~inside] == 255).all() and (label[inside] < 6).all()
    assert (image[:, ~inside] == 0).all() and (image[2, inside] == 200).all()


def test_padding_in_one_direction_only():
    """10 px high, 4 wide, crop 6: all columns with 1 px of padding each side, rows drawn."""
    windows = [RandomScaleCrop(6, 1, 1).draw(10, 4, None, np.random.default_rng(i)) for i in range(50)]
    assert {w.left for w in windows} == {-1} and {w.top for w in windows} == {0, 1, 2, 3, 4}


def test_nopad_shrinks_the_crop_to_the_shorter_side():
    """6x4 px: a crop of 4, resized to 9, without a padded pixel."""
    crop = RandomScaleCrop(9, 1, 1, nopad=True)
    assert crop.draw(4, 6, None, np.random.default_rng(0)).side == 4
    image, label = crop(*coordinates(4, 6), None, np.random.default_rng(0))
    assert image.shape == (3, 9, 9) and label.shape == (9, 9)
    assert label.max() < 6 and (image[2] > 190).all()
    assert crop.draw(40, 60, None, np.random.default_rng(0)).side == 9


def test_scale_is_uniform_and_sizes_are_cut_to_whole_px():
    crop, rng = RandomScaleCrop(8, 0.5, 2.0), np.random.default_rng(0)
    widths = [crop.draw(1000, 2000, None, rng).width for _ in range(2000)]
    counts, _ = np.histogram(widths, bins=5, range=(1000, 4000))
    assert min(widths) >= 1000 and max(widths) < 4000 and counts.min() > 340
    window = RandomScaleCrop(8, 0.75, 0.75).draw(5, 7, None, rng)
    assert (window.height, window.width) == (3, 5)  # 3.75 and 5.25


def test_pre_size_is_the_shorter_edge_at_scale_one():
    """Shorter edge 20 of 20x30 to 40 is a factor 2, times 1.5."""
    window = RandomScaleCrop(8, 1.5, 1.5, pre_size=40).draw(20, 30, None, np.random.default_rng(0))
    assert (window.height, window.width) == (60, 90)


def test_flip():
    flips = [RandomHorizontalFlip().draw(np.random.default_rng(i)) for i in range(400)]
    assert 160 < sum(flips) < 240
    image, label = (to_tensor(picture) for picture in coordinates(3, 5))
    for seed, mirrored in enumerate(flips[:10]):
        flipped = RandomHorizontalFlip()(image, label, None, np.random.default_rng(seed))
        for row in (flipped[0][0, 0], flipped[1][0]):
            assert row.tolist() == ([4, 3, 2, 1, 0] if mirrored else [0, 1, 2, 3, 4])


def test_rotation():
    angles = [RandomRotate(10).draw(np.random.default_rng(i)) for i in range(200)]
    assert -10 <= min(angles) < -8 and 8 < max(angles) <= 10
    image, label = torch.full((3, 21, 21), 9, dtype=torch.uint8), torch.full((21, 21), 3, dtype=torch.uint8)
    image, label = RandomRotate(45)(image, label, None, np.random.default_rng(0))
    assert label[10, 10] == 3 and label[0, 0] == 255
    assert image[:, 0, 0].tolist() == [0, 0, 0] and image[:, 10, 10].tolist() == [9, 9, 9]


def test_without_a_label():
    image, _ = coordinates(20, 30)
    for transform in (RandomScaleCrop(8, 1, 2), RandomHorizontalFlip(), RandomRotate(5)):
        image, label = transform(image, None, None, np.random.default_rng(0))
        assert label is None and image.shape == (3, 8, 8)
