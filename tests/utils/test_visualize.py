import numpy as np
import pytest
import torch
from PIL import Image

from utils import visualize
from utils.errors import DiskFull
from utils.pixels import IMAGENET_MEAN, IMAGENET_STD

PALETTE = [(128, 64, 128), (244, 35, 232), (70, 70, 70)]


def test_colorize_keeps_ids_and_shows_colours():
    picture = visualize.colorize(torch.tensor([[0, 1, 2, 255, 3]]), PALETTE)
    assert picture.mode == "P"
    assert np.asarray(picture).tolist() == [[0, 1, 2, 255, 3]]
    assert np.asarray(picture.convert("RGB")).tolist() == [[*map(list, PALETTE), [0, 0, 0], [0, 0, 0]]]


def test_colorize_takes_arrays():
    ids = np.array([[2, 0]], np.int64)
    expected = visualize.colorize(torch.from_numpy(ids), PALETTE)
    assert visualize.colorize(ids, np.array(PALETTE, np.uint8)).tobytes() == expected.tobytes()


def test_denormalize_returns_the_photo():
    photo = torch.arange(256 * 3).remainder(256).view(16, 16, 3)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    image = ((photo / 255 - mean) / std).permute(2, 0, 1)
    assert np.array_equal(np.asarray(visualize.denormalize(image)), photo.numpy())
    assert np.asarray(visualize.denormalize(image * 100)).max() == 255


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "step_0_a_b.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="step_0_a_b.png cannot be written"):
        visualize.save_batch(torch.zeros(1, 3, 8, 8), ["a/b"], tmp_path / "step")


def test_blend_is_the_mean():
    """(100 + 128) / 2 = 114, (200 + 64) / 2 = 132, (0 + 128) / 2 = 64."""
    photo = Image.new("RGB", (2, 1), (100, 200, 0))
    mixed = visualize.blend(photo, visualize.colorize(torch.tensor([[0, 0]]), PALETTE))
    assert mixed.getpixel((1, 0)) == (114, 132, 64)


def test_error_map_ignores_unlabelled_pixels():
    errors = visualize.error_map(torch.tensor([[0, 1, 255, 2]]), torch.tensor([[0, 2, 1, 2]]))
    assert np.asarray(errors).tolist() == [[0, 255, 0, 0]]


def test_strip_is_image_truth_prediction():
    row = visualize.strip(torch.zeros(3, 2, 4), torch.full((2, 4), 255), torch.ones(2, 4, dtype=int), PALETTE)
    assert row.shape == (3, 2, 12) and row.dtype == torch.uint8
    assert row[:, 0, 0].tolist() == [124, 116, 104]  # ImageNet's mean
    assert row[:, 0, 4].tolist() == [0, 0, 0]
    assert row[:, 0, 8].tolist() == [244, 35, 232]


def test_overlay_is_small_and_blended():
    """960 px become 480, every second; ImageNet's mean (124, 116, 104) and (244, 35, 232): 184, 75.5, 168."""
    pred = torch.arange(960).remainder(2).expand(4, 960)  # the second of each two columns is dropped
    picture = visualize.overlay(torch.zeros(3, 4, 960), 1 - pred, PALETTE)
    assert picture.shape == (3, 2, 480) and picture.dtype == torch.uint8
    assert (picture[:, 1, 7] - torch.tensor([184, 75, 168])).abs().max() <= 1


def test_summary_picture_has_four_panels_with_labels_and_two_without():
    """5 px wide with gaps of 6: image, truth, prediction, errors (right, wrong, unlabelled)."""
    label, pred = torch.tensor([[0, 1, 255, 2, 2]]), torch.tensor([[0, 2, 1, 2, 2]])
    picture = visualize.summary_picture(torch.zeros(3, 1, 5), label, pred, PALETTE)
    assert picture.size == (4 * 5 + 3 * 6, 1)
    assert [picture.getpixel((x, 0)) for x in (0, 5, 11, 13, 22, 23)] == [
        (124, 116, 104),
        (255, 255, 255),
        PALETTE[0],
        (0, 0, 0),
        PALETTE[0],
        PALETTE[2],
    ]
    errors = [picture.getpixel((x, 0)) for x in (33, 34, 35)]
    assert errors == [visualize.RIGHT, visualize.WRONG, visualize.UNLABELLED]
    assert visualize.summary_picture(torch.zeros(3, 1, 5), 0 * label + 255, pred, PALETTE).size == (16, 1)


def test_heatmap_colours_by_sign():
    """Values over the largest, 2: 1 red, 0 white, -1/2 half blue."""
    picture = visualize.heatmap(torch.tensor([[2.0, 0.0], [-1.0, 2.0]]))
    assert picture.shape == (3, 2, 2)
    assert picture[:, 0, 0].tolist() == [1, 0, 0]
    assert picture[:, 0, 1].tolist() == [1, 1, 1]
    assert picture[:, 1, 0].tolist() == [0.5, 0.5, 1]


def test_heatmap_of_nothing_is_white():
    assert torch.equal(visualize.heatmap(torch.zeros(3, 3)), torch.ones(3, 3, 3))
    assert visualize.heatmap(torch.full((2, 2), float("nan"))).isfinite().all()


def test_pseudo_label_rows():
    """Pixel 0 is of class 1 at 0.501 and has no pseudo label, pixel 1 of class 0 at 1."""
    probs = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).view(1, 2, 1, 2)
    probs[0, 1, 0, 0] += 0.001
    label = torch.tensor([[[255, 0]]])
    palette = [(200, 100, 0), (0, 100, 200)]
    rows = visualize.pseudo_label_rows(torch.zeros(1, 3, 1, 2), probs, label, palette)
    assert rows[:, 0, 2:].T.tolist() == [[0, 50, 100], [200, 100, 0], [0, 0, 0], [200, 100, 0]]
