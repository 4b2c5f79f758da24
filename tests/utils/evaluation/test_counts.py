import torch

from utils.evaluation.counts import Counts, Measures, total
from utils.evaluation.records import Finished, finished_images, line_of


def test_what_is_counted():
    label, pred = torch.tensor([[0, 1], [1, 255]]), torch.tensor([[0, 1], [0, 0]], dtype=torch.uint8)
    plain = Measures().count(label, pred, None, 2)
    assert plain.confusion.tolist() == [[1, 0], [1, 1]] and plain[1:] == (None, None)
    every = Measures(bins=4, ratio=0.02)
    counts = every.count(label, pred, torch.full((2, 2), 0.5), 2)
    assert counts.calibration.shape == (3, 4) and counts.calibration[0].tolist() == [0, 3, 0, 0]
    assert counts.boundary.tolist() == [[1, 1], [2, 2]]
    assert every.to_dict() == {"calibration": 4, "boundary_iou": 0.02} and Measures().to_dict() == {}


def test_totals():
    """Nothing at all is a confusion matrix of zeros."""
    one = Counts(torch.eye(2).long(), None, torch.ones(2, 2).long())
    confusion, calibration, boundary = total([one, one, one], 2)
    assert confusion.tolist() == [[3, 0], [0, 3]] and calibration is None
    assert boundary.tolist() == [[3, 3], [3, 3]]
    assert one.confusion.tolist() == [[1, 0], [0, 1]]  # not changed
    assert total([], 2).confusion.tolist() == [[0, 0], [0, 0]]


def test_counts_come_back_from_their_line(tmp_path):
    counts = Counts(torch.tensor([[2**40, 3], [0, 5]]), torch.full((3, 4), 2**50), torch.ones(2, 2).long())
    lines = [line_of("a", Finished(counts, "x")), line_of("b", Finished(Counts(counts.confusion), "y"))]
    (tmp_path / "process_0.jsonl").write_text("".join(lines))
    images, damaged = finished_images(tmp_path)
    assert damaged == 0 and images["b"].counts[1:] == (None, None)
    for part, expected in zip(images["a"].counts, counts, strict=True):
        assert torch.equal(part, expected)


def test_tables_of_another_shape_are_damaged(tmp_path):
    counts = Counts(torch.eye(2).long(), torch.ones(2, 4).long())
    (tmp_path / "process_0.jsonl").write_text(line_of("a", Finished(counts, "x")))
    assert finished_images(tmp_path) == ({}, 1)
