import math

import pytest
import torch

from utils.evaluation.calibration import (
    ONE,
    confidence_of,
    count_confidences,
    expected_calibration_error,
    reliability,
)


def test_expected_calibration_error_by_hand():
    """Five pixels in two bins, (0, 0.5] and (0.5, 1]; the sixth has no label.

    First bin: 0.25 wrong and 0.5 right (the upper edge belongs to the bin): accuracy 1/2, confidence 3/8.
    Second bin: 0.75 right, 1.0 right, 0.875 wrong: accuracy 2/3, confidence 7/8.
    ECE = 2/5 |1/2 - 3/8| + 3/5 |2/3 - 7/8| = 1/20 + 1/8 = 7/40.
    """
    label = torch.tensor([[0, 1, 2], [0, 1, 255]])
    pred = torch.tensor([[1, 1, 2], [0, 0, 0]], dtype=torch.uint8)
    confidence = torch.tensor([[0.25, 0.5, 0.75], [1.0, 0.875, 0.9]])
    counts = count_confidences(label, pred, confidence, 3, bins=2)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[2, 3], [1, 2], [3 * ONE // 4, 21 * ONE // 8]]
    assert expected_calibration_error(counts) == pytest.approx(7 / 40)
    low, high = reliability(counts)
    assert low == (0.0, 0.5, 2, 0.5, 0.375)
    assert high == (0.5, 1.0, 3, pytest.approx(2 / 3), 0.875)


def test_bins_include_their_upper_edge():
    """k / 16 is in bin k of 1..16, and a little more in the next; 0 is in the first."""
    edges = torch.arange(1, 17) / 16
    right = torch.zeros(2, 16, dtype=torch.long)
    assert count_confidences(*right, edges, 1, bins=16)[0].tolist() == [1] * 16
    assert count_confidences(*right, edges + 1e-6, 1, bins=16)[0].tolist() == [0, *[1] * 14, 2]
    counts = count_confidences(*right[:, :2], torch.tensor([0.0, 1 + 1e-6]), 1, bins=16)
    assert counts[0].tolist() == [1, *[0] * 14, 1] and counts[2, -1] == ONE


def test_sums_do_not_depend_on_the_order(monkeypatch):
    """Float32 sums of a shuffled tensor differ; those of the counts do not, nor do sums of parts."""
    torch.manual_seed(0)
    confidence = torch.rand(10_000)
    label, pred = torch.randint(0, 3, (2, 10_000))
    order = torch.randperm(10_000)
    counts = count_confidences(label, pred, confidence, 3)
    assert torch.equal(counts, count_confidences(label[order], pred[order], confidence[order], 3))
    halves = [count_confidences(label[i::2], pred[i::2], confidence[i::2], 3) for i in range(2)]
    assert torch.equal(counts, halves[0] + halves[1])
    monkeypatch.setattr("utils.evaluation.calibration.PIXELS", 999)
    assert torch.equal(counts, count_confidences(label, pred, confidence, 3))


def test_nothing_labelled_has_no_error():
    label, pred = torch.full((4,), 255), torch.zeros(4, dtype=torch.uint8)
    counts = count_confidences(label, pred, torch.rand(4), 3)
    assert not counts.any() and math.isnan(expected_calibration_error(counts))
    assert all(one.pixels == 0 and math.isnan(one.accuracy) for one in reliability(counts))


def test_confidence_is_the_highest_softmax_probability():
    """Logits log 1, log 2, log 5 have probabilities 1/8, 2/8, 5/8."""
    logits = torch.tensor([1.0, 2.0, 5.0]).log()[None, :, None]
    assert confidence_of(logits, 1).tolist() == [[pytest.approx(5 / 8)]]
    assert confidence_of(logits.softmax(1), 1, probabilities=True).tolist() == [[pytest.approx(5 / 8)]]
    assert confidence_of(logits + 1e4, 1).tolist() == [[pytest.approx(5 / 8, abs=1e-3)]]
