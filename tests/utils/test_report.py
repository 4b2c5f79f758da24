import json
import math
import re

import pytest
import torch

from utils import report
from utils.metrics import ConfusionMatrix
from utils.results import score_domain

NAMES = ["road", "sky", "car"]


@pytest.fixture
def domain():
    """Road: 3 right, 1 taken for sky, and 1 sky for road: IoU 3/5, precision = recall = 3/4; no car anywhere.

    Sky: 1 right, 1 missed, 1 false: IoU 1/3, precision = recall = 1/2. Means 7/15 and 5/8; acc 4/6;
    fwavacc 4/6 * 3/5 + 2/6 * 1/3 = 23/45.
    """
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 0, 1]))
    return score_domain({"one": confusion.counts}, 3, {"mean_iu_1": [0]}, [])


@pytest.fixture
def unlabelled():
    return score_domain({"two": torch.zeros(3, 3, dtype=torch.int64)}, 3, {}, [])


def test_class_table(domain):
    assert report.text_table(report.class_rows(NAMES, domain.summary)) == (
        "class    IoU  precision  recall\n"
        "road   60.00      75.00   75.00\n"
        "sky    33.33      50.00   50.00\n"
        "car        -          -       -\n"
        "mean   46.67      62.50   62.50"
    )


def test_summary_names_what_is_left_out(domain):
    first, second, third = report.summary_lines(NAMES, domain).splitlines()
    assert first == "mIoU 46.67, acc 66.67, acc_cls 62.50, fwavacc 51.11"
    assert second == "mIoU of 1 classes 60.00"
    assert third.endswith("left out of the mean: car")


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


RECORD = {
    "command": "eval.py",
    "snapshot": "net.pth",
    "snapshot_sha256": "0123456789abcdef0",
    "protocol": {
        "mode": "sliding",
        "scales": [1.0],
        "flip": True,
        "crop": 64,
        "overlap": 1 / 3,
        "precision": "bf16",
        "split": "val",
        "mapillary_protocol": "half",
    },
    "unreadable": {"folder": ["three"]},
}


def test_results_file(tmp_path, domain, unlabelled):
    path = tmp_path / "results.json"
    report.write_results(path, {"gtav": domain, "folder": unlabelled}, **RECORD)
    read = json.loads(path.read_text())
    assert read["metrics"]["folder"] is None
    assert read["metrics"]["gtav"]["mean_iu"] == pytest.approx(7 / 15)
    assert read["metrics"]["gtav"]["mean_iu_1"] == pytest.approx(3 / 5)
    assert read["metrics"]["gtav"]["iou"][2] is None  # nan is not JSON
    assert read["metrics"]["gtav"]["confusion"] == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert {key: read[key] for key in RECORD} == RECORD
    assert torch.__version__.startswith(read["versions"]["torch"])


def test_files_of_a_report(tmp_path, domain, unlabelled):
    domains = {"gtav": domain, "folder": unlabelled}
    report.write_report(tmp_path, "a <b>", domains, ["gtav"], NAMES, [(1, 2, 3)] * 3, RECORD)
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "dataset,class,iou,precision,recall",
        "gtav,road,0.600000,0.750000,0.750000",
        "gtav,sky,0.333333,0.500000,0.500000",
        "gtav,car,,,",
        "gtav,mean,0.466667,0.625000,0.625000",
        "gtav,mean_iu_1,0.600000,,",
    ]
    assert (tmp_path / "images.csv").read_text() == "dataset,image,mean_iu\ngtav,one,0.466667\n"
    text = (tmp_path / "results.md").read_text()
    assert "| a <b>    | 46.67 |" in text and "Mapillary protocol half" in text
    assert "1 images without labels" in text and "cannot be read: folder: three" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "results.csv",
        "images.csv",
        "results.md",
        "index.html",
    }


def test_commit_of_this_code():
    commit = report.git_commit()
    assert commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)


def test_percent():
    assert [report.percent(score) for score in (0.12345, 1.0, math.nan)] == ["12.35", "100.00", "-"]
