"""Files written by an earlier version stay usable; golden/before holds a checkpoint and its evaluation.

The checkpoint recorded its command, but only few of its settings. The values of each weight were set to the
first one, so that the file is small; all classes score nearly alike, so rounding decides the predictions. The
evaluation was of a toy town with 4 validation images.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import config
import eval as evaluation
from datasets.toy_city import write_toy_city
from scripts import summarize

BEFORE = Path(__file__).parent / "golden" / "before"
(SNAPSHOT,) = BEFORE.glob("*.pth")
EARLIER = json.loads((BEFORE / "eval" / "results.json").read_text())


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    root = tmp_path_factory.mktemp("town")
    write_toy_city(root, size=(64, 128), train=1, val=4, domains=["gtav", "cityscapes"])
    return root


def evaluate(town, results, *flags):
    """Evaluate the checkpoint with no flag about the network."""
    place = ["--ckpt_path", str(results.parent), "--exp_name", results.name, "--data_root", str(town)]
    how = ["--dataset", "gtav", "cityscapes", "--crop_size", "64", "--num_workers", "0"]
    evaluation.main(config.parse_eval_args(["--snapshot", str(SNAPSHOT), *place, *how, *flags]))
    return json.loads((results / "results.json").read_text())


def test_the_checkpoint_is_evaluated_as_before(town, tmp_path, capsys):
    """Network, normalization and training domain come from its command, and the same pixels are counted."""
    record = evaluate(town, tmp_path / "eval")
    assert record["protocol"] == EARLIER["protocol"]
    assert record["protocol"]["image_in"] is True
    assert "gtav*" in capsys.readouterr().out
    for name, earlier in EARLIER["metrics"].items():
        confusion, expected = (np.array(m["confusion"]) for m in (record["metrics"][name], earlier))
        # Pillow 10.3 draws up to 3 of the 32,000 px of these labels otherwise.
        assert np.abs(confusion.sum(1) - expected.sum(1)).sum() <= 6


def test_the_evaluation_is_resumed(town, tmp_path, monkeypatch):
    """All images are finished, so nothing is predicted and the scores are the same."""
    shutil.copytree(BEFORE / "eval", tmp_path / "eval")
    (tmp_path / "eval" / "results.json").unlink()
    monkeypatch.setattr(evaluation.Recorder, "finish", lambda *args: pytest.fail("an image was predicted"))
    record = evaluate(town, tmp_path / "eval", "--resume")
    assert record["metrics"] == EARLIER["metrics"]
    for name in ("results.csv", "images.csv"):  # columns have been added at the end
        lines, earlier = (
            (place / name).read_text().splitlines() for place in (tmp_path / "eval", BEFORE / "eval")
        )
        assert [line[: len(old)] for line, old in zip(lines, earlier, strict=True)] == earlier


def test_the_results_are_summarized(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["summarize", f"before={BEFORE / 'eval'}", "--seen", "gtav"])
    summarize.main()
    header, row, how = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["mIoU", "(%)", "gtav*", "cityscapes"]
    assert "sliding, " in how
    means = [EARLIER["metrics"][name]["mean_iu"] for name in ("gtav", "cityscapes")]
    assert row.split()[1:3] == [f"{100 * mean:.2f}" for mean in means]
