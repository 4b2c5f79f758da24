"""Training images of DA-SAC: sizes, filters, where the padding is and what it holds."""

import numpy as np
import pytest
import torch
from PIL import Image

from transforms.photometric import ColorJitter, Photometric
from transforms.source import SourcePreset, pad
from utils.pixels import IMAGENET

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 19, (20, 30), dtype=np.uint8)


def crop(size, scale, seed=0, operations=(), label=LABEL, **options):
    preset = SourcePreset(size, Photometric(operations), (scale, scale), **options)
    label = None if label is None else Image.fromarray(label)
    return preset(Image.fromarray(PIXELS), label, None, np.random.default_rng(seed))


def normalized(picture):
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in IMAGENET)
    return (values - mean) / std


@pytest.mark.parametrize(("scale", "resize"), [(1.0, None), (0.55, None), (1.7, None), (1.7, (11, 17))])
def test_a_whole_image_is_resized_bilinearly(scale, resize):
    """The crop has the size of the scaled image; each side is cut off to whole px."""
    picture, label = Image.fromarray(PIXELS), Image.fromarray(LABEL)
    if resize:
        picture = picture.resize(resize[::-1], Image.Resampling.BILINEAR)
        label = label.resize(resize[::-1], Image.Resampling.NEAREST)
    size = int(scale * picture.height), int(scale * picture.width)
    picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    label = torch.from_numpy(np.array(label.resize(size[::-1], Image.Resampling.NEAREST))).long()
    seen = set()
    for seed in range(6):
        image, train_ids = crop(size, scale, seed, resize=resize)
        mirrored = not torch.equal(train_ids, label)
        seen.add(mirrored)
        expected = (
            (normalized(picture).flip(-1), label.flip(-1)) if mirrored else (normalized(picture), label)
        )
        torch.testing.assert_close(image, expected[0])
        assert torch.equal(train_ids, expected[1])
    assert seen == {True, False}


def test_padding_is_zero_after_normalization_whatever_the_colours():
    """10 x 15 px in 15 x 20: 2 px above, 3 below, 2 px left, 3 right, in mirror images too."""
    for seed in range(6):
        jitter = [ColorJitter(0.5, 0.5, 0.5, 0.5)]
        image, label = crop((15, 20), 0.5, seed, jitter)
        inside = torch.zeros(15, 20, dtype=torch.bool)
        inside[2:12, 2:17] = True
        assert (image[:, ~inside] == 0).all() and (image[:, inside] != 0).all()
        assert (label[~inside] == 255).all() and (label[inside] < 19).all()


def test_crops_are_uniform():
    """8 x 30 px of 20 x 30 begin in each of 13 rows equally often."""
    rows = torch.from_numpy(LABEL[:, 0]).long(), torch.from_numpy(LABEL[:, -1]).long()
    starts = []
    for seed in range(650):
        _, label = crop((8, 30), 1.0, seed)
        starts += [s for s in range(13) for column in rows if torch.equal(label[:, 0], column[s : s + 8])]
    counts = np.bincount(starts, minlength=13)
    assert counts.sum() == 650 and counts.min() > 25


def test_an_image_without_a_label():
    image, label = crop((8, 8), 1.0, label=None)
    assert image.shape == (3, 8, 8) and label is None


def test_pad_by_hand():
    assert pad(torch.tensor([[1, 2]]), (2, 5), 9).tolist() == [[9, 1, 2, 9, 9], [9, 9, 9, 9, 9]]


def test_colours_depend_only_on_the_visible_part():
    """Columns of one grey level keep it under any contrast; beside them are columns of another level."""
    pixels = np.repeat(np.array([[50] * 15 + [200] * 15], np.uint8), 20, 0)[..., None].repeat(3, 2)
    preset = SourcePreset((20, 5), Photometric([ColorJitter(0, 0.9, 0, 0)]), (1, 1))
    levels = {50: (50 / 255 - 0.485) / 0.229, 200: (200 / 255 - 0.485) / 0.229}
    seen = []
    for seed in range(20):
        image, _ = preset(Image.fromarray(pixels), None, None, np.random.default_rng(seed))
        if (image[0] == image[0, 0, 0]).all():
            seen.append(image[0, 0, 0].item())
    assert len(seen) > 5 and all(min(abs(x - y) for y in levels.values()) < 1e-5 for x in seen)
