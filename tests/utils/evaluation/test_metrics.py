import math

import pytest
import torch

from tests.helpers import run_processes
from utils.evaluation.metrics import ConfusionMatrix


def counted(label, pred, num_classes):
    confusion = ConfusionMatrix(num_classes)
    confusion.update(torch.as_tensor(label), torch.as_tensor(pred))
    return confusion


def test_published_numbers():
    """The published code's result for 2000 made-up pixels, of which 1652 are labelled and 86 right."""
    label = torch.arange(2000) * 7 % 23
    label[label >= 19] = 255
    confusion = counted(label, torch.arange(2000) % 19, 19)
    summary = confusion.summary()
    assert confusion.counts.dtype == torch.int64
    assert confusion.counts.trace() == 86 and confusion.counts.sum() == 1652
    assert summary.mean_iu == pytest.approx(0.02673608227186146, rel=1e-14)
    assert summary.present == list(range(19))


def test_scores_by_hand():
    """Four classes; class 3 is in neither truth nor prediction.

    label: 0 0 0 0 1 1 2 255    pred: 0 0 0 1 1 1 0 1 (the last pixel is ignored)
    truth: 4, 2, 1 pixels; predicted: 4, 3, 0; right: 3, 2, 0.
    IoU 3/(4+4-3) = 3/5, 2/(2+3-2) = 2/3, 0/1 = 0: mean 19/45. Precision 3/4, 2/3, none. Recall 3/4, 1, 0.
    acc 5/7; acc_cls (3/4 + 1 + 0) / 3 = 7/12; fwavacc 4/7 * 3/5 + 2/7 * 2/3 + 1/7 * 0 = 56/105.
    """
    summary = counted([0, 0, 0, 0, 1, 1, 2, 255], [0, 0, 0, 1, 1, 1, 0, 1], 4).summary()
    nan = math.nan
    assert summary.iou == pytest.approx([3 / 5, 2 / 3, 0, nan], nan_ok=True)
    assert summary.precision == pytest.approx([3 / 4, 2 / 3, nan, nan], nan_ok=True)
    assert summary.recall == pytest.approx([3 / 4, 1, 0, nan], nan_ok=True)
    assert summary.mean_iu == pytest.approx(19 / 45)
    assert summary.acc == pytest.approx(5 / 7)
    assert summary.acc_cls == pytest.approx(7 / 12)
    assert summary.fwavacc == pytest.approx(56 / 105)
    assert summary.present == [0, 1, 2]


def test_predicted_but_absent_class_lowers_the_mean():
    """Class 1 is predicted once and never true: IoU 0/1 = 0, so the mean is (3/4 + 0) / 2."""
    summary = counted([0, 0, 0, 0], [0, 0, 0, 1], 3).summary()
    assert summary.mean_iu == pytest.approx(3 / 8)
    assert summary.present == [0, 1]


def test_updates_add_up_whatever_the_shape_and_type():
    label, pred = torch.arange(24) % 4, torch.arange(24) // 3 % 4
    confusion = ConfusionMatrix(4)
    confusion.update(label[:12].view(1, 3, 4).to(torch.uint8), pred[:12].view(1, 3, 4).to(torch.uint8))
    confusion.update(label[12:].view(4, 3).int(), pred[12:].view(4, 3))
    assert torch.equal(confusion.counts, counted(label, pred, 4).counts)


@pytest.mark.parametrize("label", [-1, 4, 200, 255])
def test_labels_outside_the_classes_are_ignored(label):
    summary = counted([label, label], [0, 3], 4).summary()
    assert summary.present == []
    assert all(math.isnan(getattr(summary, name)) for name in ("mean_iu", "acc", "acc_cls", "fwavacc"))


@pytest.mark.parametrize("pred", [-1, 4, 255])
def test_prediction_outside_the_classes_is_an_error(pred):
    with pytest.raises(ValueError, match="expected 0 to 3"):
        counted([0, 255], [0, pred], 4).summary()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\).*\(2, 3\)"):
        counted(torch.zeros(1, 2, 3, dtype=int), torch.zeros(2, 3, dtype=int), 4)


def share(rank, world_size):
    confusion = ConfusionMatrix(2)
    if rank == 0:  # the other process has no image
        confusion.counts += torch.tensor([[2**24, 1], [0, 0]])
        confusion.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    confusion.all_reduce()
    return confusion.counts.tolist()


def test_sum_over_processes_is_exact():
    """2^24 + 1 is the first whole number that float32 cannot hold."""
    assert run_processes(share, 2) == [[[2**24 + 1, 1], [1, 0]]] * 2
