import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from utils.evaluation.boundary import band, band_width, boundary_ious, count_boundaries


def test_width_of_bands():
    """2% of the diagonal: of 1024x2048 px (2289.7) 46, of 3x4 px (5) 0.1, which is at least 1."""
    assert band_width(1024, 2048) == 46 and band_width(3, 4) == 1 and band_width(300, 400, 0.01) == 5


def test_boundary_iou_by_hand():
    """Two halves of a 4x6 image; the prediction's edge is one column to the right. Bands of 1 px.

    truth  0 0 0 1 1 1   its bands: all but (1..2, 1) and (1..2, 4), which are inside
    pred   0 0 0 0 1 1   its bands: all but (1..2, 1..2); the right half has 2 columns, all of them band
    Class 0: truth 12 - 2 = 10 px, prediction 16 - 4 = 12 px. Both: the columns 0..2 without (1..2, 1..2),
    12 - 4 = 8. Union 10 + 12 - 8 = 14.
    Class 1: truth 12 - 2 = 10, prediction 8. Both: the columns 4..5 without (1..2, 4), 8 - 2 = 6. Union 12.
    """
    truth = torch.tensor([[0, 0, 0, 1, 1, 1]] * 4)
    pred = torch.tensor([[0, 0, 0, 0, 1, 1]] * 4, dtype=torch.uint8)
    counts = count_boundaries(truth[None], pred[None], 3)
    assert counts.dtype == torch.int64 and counts.tolist() == [[8, 6, 0], [14, 12, 0]]
    ious = boundary_ious(counts)
    assert ious[:2] == [pytest.approx(8 / 14), pytest.approx(6 / 12)] and math.isnan(ious[2])


def test_unlabelled_pixels_end_regions_of_both():
    """A 5x5 image of one class with an unlabelled middle: all 24 px are within 1 px of an edge.

    Where the prediction calls the middle another class, nothing changes: it is not scored.
    """
    truth = torch.zeros(5, 5, dtype=torch.long)
    pred = truth.byte()
    assert count_boundaries(truth, pred, 2).tolist() == [[16, 0], [16, 0]]  # the image's border
    truth[2, 2] = 255
    assert count_boundaries(truth, pred, 2).tolist() == [[24, 0], [24, 0]]
    pred[2, 2] = 1
    assert count_boundaries(truth, pred, 2).tolist() == [[24, 0], [24, 0]]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 40])
def test_bands_are_masks_without_their_erosion(width):
    """For each class, scipy's erosion by a square, with nothing outside of the image."""
    rng = np.random.default_rng(width)
    label = np.kron(rng.integers(0, 3, (5, 7)), np.ones((6, 5), int)).astype(np.uint8)
    found = band(torch.from_numpy(label), width).numpy()
    square = np.ones((2 * width + 1,) * 2, bool)
    for k in range(3):
        mask = label == k
        expected = mask & ~binary_erosion(mask, square, border_value=0)
        assert np.array_equal(found & mask, expected)


def test_a_perfect_prediction_scores_one(monkeypatch):
    """Also where the pixels are counted in parts."""
    monkeypatch.setattr("utils.evaluation.boundary.PIXELS", 99)
    truth = torch.randint(0, 4, (2, 20, 30))
    ious = boundary_ious(count_boundaries(truth, truth.byte(), 4))
    assert ious == [1.0] * 4
