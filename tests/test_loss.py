"""Golden values: golden/misc.json, from the published code, whose relaxed loss is partly float32."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from loss import (
    AUX_WEIGHT,
    HeadLosses,
    MainLoss,
    aux_cross_entropy,
    boundary,
    cross_entropy,
    image_weighted_cross_entropy,
    relaxed_cross_entropy,
    relaxed_label,
)
from utils import distributed
from utils.classes import CITYSCAPES

CLASS_WEIGHTS = CITYSCAPES.weights
GOLDEN = json.loads((Path(__file__).parent / "golden/misc.json").read_text())


@pytest.fixture
def batch():
    logits = torch.randn(2, 19, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label = torch.randint(0, 19, (2, 8, 12), generator=torch.Generator().manual_seed(2))
    label = label.repeat_interleave(4, 1).repeat_interleave(4, 2)
    label[:, :2] = 255
    return logits, label


def two_class(probability, shape):
    """Logits whose softmax gives class 0 this probability everywhere."""
    logits = torch.zeros(shape[0], 2, *shape[1:], dtype=torch.float64)
    logits[:, 0] = math.log(probability / (1 - probability))
    return logits


def test_cross_entropy_ignores_255_by_hand():
    label = torch.tensor([[[0, 1, 255]]])
    # p(0) = 0.8: -(ln 0.8 + ln 0.2) / 2
    expected = -(math.log(0.8) + math.log(0.2)) / 2
    assert cross_entropy(two_class(0.8, label.shape), label).item() == pytest.approx(expected)


def test_cross_entropy_of_an_unlabelled_batch_is_zero_with_a_gradient():
    logits = torch.randn(1, 19, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_class_weights_are_torchs(batch):
    expected = F.cross_entropy(*batch, torch.tensor(CLASS_WEIGHTS).double(), ignore_index=255)
    torch.testing.assert_close(cross_entropy(*batch, CLASS_WEIGHTS), expected)


def test_image_weighted_golden(batch):
    expected = GOLDEN["image_weighted_ce batch_weighting=False upper_bound=1.0"]
    assert image_weighted_cross_entropy(*batch).item() == pytest.approx(expected, rel=1e-9)


def test_image_weighted_by_hand():
    # shares 3/4 and 1/4: weights 1.25 and 1.75; weighted mean of ln(1 / 0.8) x 3 and ln(1 / 0.2)
    label = torch.tensor([[[0, 0, 0, 1]]])
    expected = (1.25 * 3 * -math.log(0.8) + 1.75 * -math.log(0.2)) / (1.25 * 3 + 1.75)
    assert image_weighted_cross_entropy(two_class(0.8, label.shape), label).item() == pytest.approx(expected)


def test_batch_weighting_shares_over_the_batch():
    # over both images 5/8 and 3/8: weights 1.375 and 1.625, still one weighted mean per image, summed
    label = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 1, 1]]])
    zero, one = -math.log(0.8), -math.log(0.2)
    expected = (1.375 * 3 * zero + 1.625 * one) / (1.375 * 3 + 1.625)
    expected += (1.375 * 2 * zero + 1.625 * 2 * one) / (1.375 * 2 + 1.625 * 2)
    value = image_weighted_cross_entropy(two_class(0.8, label.shape), label, batch_weighting=True)
    assert value.item() == pytest.approx(expected)


def test_relaxed_label_golden(batch):
    relaxed = relaxed_label(batch[1], 19)
    assert list(relaxed.shape) == GOLDEN["relaxed_boundary shape"]
    assert relaxed[0].sum((1, 2)).tolist() == GOLDEN["relaxed_boundary per-class sums image0"]


def test_relaxed_label_by_hand():
    # one row 0 0 1 1: outside the image everywhere; the two middle pixels see both classes
    label = torch.tensor([[[0, 0, 1, 1]]])
    assert relaxed_label(label, 2)[0, :, 0].tolist() == [[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]
    assert relaxed_label(label, 2, (1,))[0, :, 0].tolist() == [[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0]]


def test_relaxed_cross_entropy_golden(batch):
    expected = GOLDEN["img_wt_soft_nll batch_weighting=False upper_bound=1.0"]
    assert relaxed_cross_entropy(*batch).item() == pytest.approx(expected, rel=1e-6)


def test_relaxed_cross_entropy_by_hand():
    # 0 0 1 1: the middle pixels see both classes, together certain, and cost nothing. Shares of the 10 ones
    # (3, 3 and 4 outside) weigh 1 + 2 * 0.7; divided by 4 labelled pixels + 1.
    label = torch.tensor([[[0, 0, 1, 1]]])
    expected = 2.4 * (-math.log(0.8) - math.log(0.2)) / 5
    value = relaxed_cross_entropy(two_class(0.8, label.shape), label, upper_bound=2.0)
    assert value.item() == pytest.approx(expected)


def test_boundary_is_two_pixels_wide():
    assert boundary(torch.tensor([[[0, 0, 1, 1]]])).tolist() == [[[False, True, True, False]]]


def test_switched_off_relaxation_doubles_boundaries():
    # one-hot, pad-free; shares 1/2 each: weights 1.5; pixels count 1, 2, 2, 1; divided by 4 labelled + 1
    label = torch.tensor([[[0, 0, 1, 1]]])
    expected = 1.5 * 3 * (-math.log(0.8) - math.log(0.2)) / 5
    value = relaxed_cross_entropy(two_class(0.8, label.shape), label, relaxed=False)
    assert value.item() == pytest.approx(expected)


def test_main_loss_follows_its_options(batch):
    assert MainLoss()(*batch, 0) == cross_entropy(*batch)
    assert MainLoss(class_weights=CLASS_WEIGHTS)(*batch, 0) == cross_entropy(*batch, CLASS_WEIGHTS)
    assert MainLoss(image_weighted=True)(*batch, 0) == image_weighted_cross_entropy(*batch)
    relaxing = MainLoss(relax_boundary=True, relax_off_iter=5)
    assert relaxing(*batch, 5) == relaxed_cross_entropy(*batch)
    assert relaxing(*batch, 6) == relaxed_cross_entropy(*batch, relaxed=False)


def test_aux_label_is_nearest_resized():
    label = torch.tensor([[[0, 9], [9, 9]]]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits = torch.zeros(1, 19, 2, 2)
    logits[0, 0, 0, 0] = logits[0, 9, 0, 1] = logits[0, 9, 1, 0] = logits[0, 9, 1, 1] = 50
    assert aux_cross_entropy(logits, label).item() == pytest.approx(0, abs=1e-6)


def test_losses_of_both_heads(batch):
    """The auxiliary head counts with its weight, and has the class weights of the main head."""
    logits, label = batch
    small = logits[:, :, ::4, ::4]
    losses = HeadLosses(MainLoss(class_weights=CLASS_WEIGHTS))
    assert losses(SimpleNamespace(logits=logits, aux_logits=None), label, 0).keys() == {"main"}
    both = losses(SimpleNamespace(logits=logits, aux_logits=small), label, 0)
    assert both["main"] == cross_entropy(logits, label, CLASS_WEIGHTS)
    assert both["aux"] == AUX_WEIGHT * aux_cross_entropy(small, label, CLASS_WEIGHTS) and AUX_WEIGHT == 0.4


def test_the_published_divisor_of_adaptation_by_hand():
    """Two of four pixels are labelled, each costs log 2: the sum is divided by four."""
    logits, label = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 1], [255, 255]]])
    assert cross_entropy(logits, label).item() == pytest.approx(math.log(2))
    assert cross_entropy(logits, label, all_pixels=True).item() == pytest.approx(math.log(2) / 2)
    main = MainLoss(all_pixels=True)
    assert main(logits, label, 0).item() == pytest.approx(math.log(2) / 2)
    output = SimpleNamespace(logits=logits, aux_logits=logits)
    assert HeadLosses(main)(output, label, 0)["aux"].item() == pytest.approx(0.4 * math.log(2) / 2)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_the_mean_of_all_processes_is_that_of_the_joint_batch(weights, monkeypatch):
    """Two processes, played one after the other, of which the second has fewer labelled pixels."""
    logits = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    label = torch.randint(0, 2, (2, 3, 4))
    label[1, 1:] = 255
    expected = cross_entropy(logits, label, weights)
    counts: list = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "sum_in_place", lambda count: counts.append(count) or count)
    for part in (slice(0, 1), slice(1, 2)):
        cross_entropy(logits[part], label[part], weights, joint=True)
    monkeypatch.setattr(distributed, "sum_in_place", lambda count: sum(counts))
    parts = [cross_entropy(logits[i : i + 1], label[i : i + 1], weights, joint=True) for i in range(2)]
    torch.testing.assert_close(sum(parts) / 2, expected)
