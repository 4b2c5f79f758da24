import math

import pytest
import torch

from utils.classes import ClassTable
from utils.evaluation import tables
from utils.evaluation.counts import Counts
from utils.evaluation.metrics import ConfusionMatrix
from utils.evaluation.scores import score_dataset

CLASSES = ClassTable(("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


@pytest.fixture
def scores():
    """Road: 3 right, 1 taken for sky, and 1 sky for road: IoU 3/5, precision = recall = 3/4; no car anywhere.

    Sky: 1 right, 1 missed, 1 false: IoU 1/3, precision = recall = 1/2. Means 7/15 and 5/8; acc 4/6;
    fwavacc 4/6 * 3/5 + 2/6 * 1/3 = 23/45.
    """
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1]))
    return score_dataset({"one": Counts(confusion.counts)}, CLASSES, {"mean_iu_1": [0]}, [])


def test_class_table(scores):
    assert tables.text_table(tables.class_rows(CLASSES, scores.summary)) == (
        "class    IoU  precision  recall\n"
        "road   60.00      75.00   75.00\n"
        "sky    33.33      50.00   50.00\n"
        "car        -          -       -\n"
        "mean   46.67      62.50   62.50"
    )


def test_summary_names_absent_classes(scores):
    first, second, third = tables.summary_lines(CLASSES, scores, scores.summary).splitlines()
    means = "acc 66.67 (of all pixels), acc_cls 62.50 (mean recall), fwavacc 51.11 (IoU weighted"
    assert first == f"mIoU 46.67, {means} by the frequency of classes), mean over 2 classes"
    assert second == "mIoU of 1 classes 60.00"
    assert third.endswith(": car")


def test_classes_that_a_mean_of_precision_or_recall_lacks_are_named():
    """Sky is never predicted, car is predicted but not in the labels: both have an IoU of 0 in the mean."""
    scores = score_dataset({"one": Counts(torch.tensor([[4, 0, 2], [1, 0, 0], [0, 0, 0]]))}, CLASSES, {}, [])
    lines = tables.summary_lines(CLASSES, scores, scores.summary).splitlines()
    assert lines[-2] == "never predicted, so not in the mean of precision: sky"
    assert lines[-1] == "not in the labels, so not in the mean of recall: car"


def test_classes_that_the_dataset_lacks_are_errors_of_the_others():
    """Road and sky occur: of 6 px of road 2 are taken for car, so its IoU is 4/6; sky 1/1; the mean is 5/6.

    Over all three classes the car's IoU of 0 would count: 5/9.
    """
    counts = Counts(torch.tensor([[4, 0, 2], [0, 1, 0], [0, 0, 0]]))
    scores = score_dataset({"one": counts}, CLASSES, {}, [], occurring=(0, 1))
    assert scores.summary.averaged == [0, 1] and scores.summary.present == [0, 1, 2]
    assert scores.summary.mean_iu == pytest.approx(5 / 6) == scores.images["one"]
    assert score_dataset({"one": counts}, CLASSES, {}, []).summary.mean_iu == pytest.approx(5 / 9)
    lines = tables.summary_lines(CLASSES, scores, scores.summary)
    assert "mean over 2 classes" in lines and "not a class of this dataset but predicted" in lines
    assert tables.class_rows(CLASSES, scores.summary)[-1][:2] == ["mean", "83.33"]


def test_the_mean_is_over_unseen_datasets():
    """ISW: (30 + 40) / 2 = 35 without the source; base lacks one unseen dataset, so it has no mean."""
    runs = {"ISW": [{"gtav": 0.7, "bdd100k": 0.3, "camvid": 0.4}], "base": [{"gtav": 0.71, "bdd100k": 0.2}]}
    assert tables.text_table(tables.seed_rows(runs, seen=["gtav"])) == (
        "mIoU (%)  gtav*  bdd100k  camvid  mean of unseen\n"
        "ISW       70.00    30.00   40.00           35.00\n"
        "base      71.00    20.00       -               -"
    )


def test_without_known_sources_the_mean_is_over_all_datasets():
    rows = tables.seed_rows({"run": [{"bdd100k": 0.25, "camvid": 0.75}]})
    assert rows == [["mIoU (%)", "bdd100k", "camvid", "mean"], ["run", "25.00", "75.00", "50.00"]]


def test_without_unseen_datasets_there_is_no_mean():
    assert tables.seed_rows({"run": [{"gtav": 0.5}]}, seen=["gtav"])[1] == ["run", "50.00", "-"]


def test_markdown_table():
    assert tables.markdown_table([["run", "gtav"], ["a", "7.10"]]) == (
        "| run | gtav |\n"
        "| --- | ---: |\n"
        "| a   | 7.10 |"
    )  # fmt: skip


def test_percent():
    assert [tables.percent(score) for score in (0.12345, 1.0, math.nan)] == ["12.35", "100.00", "-"]
