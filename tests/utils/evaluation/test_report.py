import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from utils.classes import ClassTable
from utils.evaluation import report
from utils.evaluation.counts import Counts
from utils.evaluation.protocol import Protocol
from utils.evaluation.scores import Results, score_dataset

CLASSES = ClassTable(("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
PROTOCOL = Protocol(
    mode="sliding",
    scales=(1.0,),
    flip=True,
    crop=64,
    overlap=1 / 3,
    precision="bf16",
    split="val",
    cv_split=0,
    mapillary_protocol="half",
    image_in=False,
    fixed_aspp_pool=False,
)

HOW = f'"{PROTOCOL.title()}"'


@pytest.fixture
def results():
    """The scores derived in test_tables: IoU 3/5 and 1/3, precision = recall = 3/4 and 1/2; no car.

    Another dataset has no labels.
    """
    counts = torch.tensor([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    return Results(
        run="a <b>",
        classes=CLASSES,
        datasets={
            "gtav": score_dataset({"one": Counts(counts)}, CLASSES, {"mean_iu_1": [0]}, []),
            "folder": score_dataset({"two": Counts(0 * counts)}, CLASSES, {}, []),
        },
        training_domains=["gtav"],
        network={"arch": "Net", "wt_layer": [0, 0, 2]},
        protocol=PROTOCOL,
        command="eval.py",
        snapshot="net.pth",
        snapshot_sha256="0123456789abcdef0",
        peak_gpu_memory_gib=0.0,
        left_out={"folder": {"three": "cannot be read"}},
    )


def test_results_file(tmp_path, results):
    report.write_json(tmp_path / "results.json", replace(results, part=(1, 2)))
    read = json.loads((tmp_path / "results.json").read_text())
    assert read["metrics"]["folder"] is None
    assert read["metrics"]["gtav"]["mean_iu"] == pytest.approx(7 / 15)
    assert read["metrics"]["gtav"]["mean_iu_1"] == pytest.approx(3 / 5)
    assert read["metrics"]["gtav"]["iou"][2] is None  # nan is not JSON
    assert read["metrics"]["gtav"]["confusion"] == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert read["classes"] == ["road", "sky", "car"]
    assert read["protocol"]["scales"] == [1.0] and read["protocol"]["slice"] == [1, 2]
    assert read["unreadable"] == {"folder": ["three"]}
    assert torch.__version__.startswith(read["versions"]["torch"])


def test_keys_are_those_of_earlier_results(tmp_path, results):
    """Other programs read them; the golden file was written by an earlier version."""
    golden = Path(__file__).parents[2] / "golden" / "before" / "eval" / "results.json"
    earlier = json.loads(golden.read_text())
    report.write_json(tmp_path / "results.json", results)
    read = json.loads((tmp_path / "results.json").read_text())
    assert set(read) >= set(earlier)
    assert list(read["protocol"]) == list(earlier["protocol"])
    keys = [key for key in read["metrics"]["gtav"] if key != "mean_iu_1"]
    assert keys == list(earlier["metrics"]["gtav"])


def test_files_of_a_report(tmp_path, results):
    report.write_report(tmp_path, results)
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "dataset,class,iou,precision,recall,classes,protocol",
        f"gtav,road,0.600000,0.750000,0.750000,,{HOW}",
        f"gtav,sky,0.333333,0.500000,0.500000,,{HOW}",
        f"gtav,car,,,,,{HOW}",
        f"gtav,mean,0.466667,0.625000,0.625000,2,{HOW}",
        f"gtav,mean_iu_1,0.600000,,,1,{HOW}",
    ]
    assert (
        tmp_path / "images.csv"
    ).read_text() == f"dataset,image,mean_iu,protocol\ngtav,one,0.466667,{HOW}\n"
    for name in ("results.md", "index.html"):
        text = (tmp_path / name).read_text()
        assert HOW.strip('"') in text and "mean over 2 classes" in text
    text = (tmp_path / "results.md").read_text()
    assert "| a <b>    | 46.67 |" in text and "Mapillary protocol half" in text
    assert "1 images without labels" in text and "left out: folder: three (cannot be read)" in text
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "results.csv",
        "images.csv",
        "results.md",
        "index.html",
    }


def test_protocols_in_words():
    assert PROTOCOL.describe() == "sliding, scales 1.0, mirrored, crop 64 px, overlap 0.333, bf16"
    whole = replace(PROTOCOL, mode="whole", flip=False, image_in=True)
    assert whole.describe().startswith("whole, scales 1.0, not mirrored, ") and "crop" not in whole.describe()
    assert "own statistics" in whole.describe()
    assert PROTOCOL.title() == f"{PROTOCOL.describe()}, split val, Mapillary protocol half"
    special = replace(PROTOCOL, cv_split=2, test_mode=True, split="train").title()
    assert "split train, cross-validation split 2" in special and special.endswith("(test mode)")


def test_commit_of_this_code():
    commit = report.git_commit()
    assert commit is None or re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)
