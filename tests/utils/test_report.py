import json
import math

import pytest
import torch

from utils import report
from utils.metrics import ConfusionMatrix


@pytest.fixture
def summary():
    """Road: 3 right, 1 taken for sky, and 1 sky for road: IoU 3/5, precision = recall = 3/4; no car anywhere.

    Sky: 1 right, 1 missed, 1 false: IoU 1/3, precision = recall = 1/2. Means 7/15 and 5/8; acc 4/6;
    fwavacc 4/6 * 3/5 + 2/6 * 1/3 = 23/45.
    """
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1]))
    return confusion.summary()


def test_class_table(summary):
    assert report.text_table(report.class_rows(["road", "sky", "car"], summary)) == (
        "class    IoU  precision  recall\n"
        "road   60.00      75.00   75.00\n"
        "sky    33.33      50.00   50.00\n"
        "car        -          -       -\n"
        "mean   46.67      62.50   62.50"
    )


def test_summary_names_what_is_left_out(summary):
    first, second = report.summary_lines(["road", "sky", "car"], summary).splitlines()
    assert first == "mIoU 46.67, acc 66.67, acc_cls 62.50, fwavacc 51.11"
    assert second.endswith("left out of the mean: car")


def test_domain_table_means_over_unseen_domains():
    """ISW: (30 + 40) / 2 = 35 without the source; base lacks one unseen domain, so it has no mean."""
    scores = {"ISW": {"gtav": 0.7, "bdd100k": 0.3, "camvid": 0.4}, "base": {"gtav": 0.71, "bdd100k": 0.2}}
    assert report.text_table(report.domain_rows(scores, seen=["gtav"])) == (
        "mIoU (%)  gtav*  bdd100k  camvid  mean of unseen\n"
        "ISW       70.00    30.00   40.00           35.00\n"
        "base      71.00    20.00       -               -"
    )


def test_domain_table_without_known_source():
    rows = report.domain_rows({"run": {"bdd100k": 0.25, "camvid": 0.75}})
    assert rows == [["mIoU (%)", "bdd100k", "camvid", "mean"], ["run", "25.00", "75.00", "50.00"]]


def test_domain_table_with_nothing_unseen():
    assert report.domain_rows({"run": {"gtav": 0.5}}, seen=["gtav"])[1] == ["run", "50.00", "-"]


def test_markdown_table():
    assert report.markdown_table([["run", "gtav"], ["a", "7.10"]]) == (
        "| run | gtav |\n"
        "| --- | ---: |\n"
        "| a   | 7.10 |"
    )  # fmt: skip


def test_results_file(tmp_path, summary):
    path = tmp_path / "new" / "results.json"
    metrics = {"gtav": summary, "folder": None}
    report.write_results(path, metrics=metrics, command="eval.py", protocol={"scales": [1.0]})
    read = json.loads(path.read_text())
    assert read["metrics"]["folder"] is None
    assert read["metrics"]["gtav"]["mean_iu"] == pytest.approx(7 / 15)
    assert read["metrics"]["gtav"]["iou"][2] is None  # nan is not JSON
    assert read["command"] == "eval.py" and read["protocol"] == {"scales": [1.0]}
    assert torch.__version__.startswith(read["versions"]["torch"])


def test_percent():
    assert [report.percent(score) for score in (0.12345, 1.0, math.nan)] == ["12.35", "100.00", "-"]
