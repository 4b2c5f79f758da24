"""Bars, dots and tables from saved results: positions by hand."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from scripts.figure import classes, domains, latex
from scripts.figure.__main__ import main
from scripts.figure.canvas import COLORS
from utils.errors import MissingFile, UserError
from utils.evaluation.saved import read_named
from utils.logging import logger

SVG = "{http://www.w3.org/2000/svg}"


def write_results(
    folder: Path, scores: dict[str, list[float | None]], names=("road", "sky", "car"), mode="whole", **more
):
    """Write IoUs by dataset as eval.py does."""
    metrics = {}
    for dataset, ious in scores.items():
        known = [iou for iou in ious if iou is not None]
        metrics[dataset] = {"mean_iu": sum(known) / len(known), "iou": ious}
    content = {"metrics": metrics, "classes": names, "protocol": {"mode": mode, "slice": [0, 1]}} | more
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two seeds of a (road 0.4 and 0.6: mean 0.5, deviation 0.1414), one of b; car is in no dataset."""
    first = write_results(tmp_path / "1", {"gtav": [0.4, 0.2, None]})
    second = write_results(tmp_path / "2", {"gtav": [0.6, 0.2, None]})
    other = write_results(tmp_path / "3", {"gtav": [0.8, 0.1, None], "kitti": [0.3, 0.1, None]})
    return [f"a={first}", f"a={second}", f"b={other}"]


def test_a_bar_per_class_and_method(runs):
    """420 px are 100%: road of a is 210 px long, of b 336; two classes are shown."""
    canvas = classes.draw(read_named(runs), "gtav")
    svg = ElementTree.fromstring(canvas.svg())
    bars = [box for box in svg.iter(SVG + "rect") if box.get("height") == "13.0"]
    assert [bar.get("width") for bar in bars] == ["210.0", "336.0", "84.0", "42.0"]
    assert [bar.get("fill") for bar in bars] == [COLORS[0], COLORS[1]] * 2
    words = [text.text for text in svg.iter(SVG + "text")]
    assert {"road", "sky", "50.0", "80.0", "a", "b"} <= set(words) and "car" not in words


def test_svg_and_png_show_the_same(runs, tmp_path):
    for suffix in (".svg", ".png"):
        main(["classes", *runs, "--dataset", "gtav", "--out", str(tmp_path / f"deep/bars{suffix}")])
    svg = ElementTree.parse(tmp_path / "deep/bars.svg").getroot()
    bar = [box for box in svg.iter(SVG + "rect") if box.get("width") == "336.0"][0]
    with Image.open(tmp_path / "deep/bars.png") as picture:
        assert picture.size == (2 * int(svg.get("width")), 2 * int(svg.get("height")))
        row = np.asarray(picture)[2 * round(float(bar.get("y"))) + 4]
    orange = np.flatnonzero((row == (213, 94, 0)).all(1))
    assert abs(len(orange) - 2 * 336) <= 2
    with pytest.raises(UserError, match="bars.pdf"):
        main(["classes", *runs, "--dataset", "gtav", "--out", str(tmp_path / "bars.pdf")])


def test_a_dot_per_domain_and_method(runs):
    """a scores 35% on gtav (deviation 7.07) and has no kitti; b 45 and 20. The axis ends at 50%: 460 px."""
    canvas = domains.draw(read_named(runs))
    svg = ElementTree.fromstring(canvas.svg())
    dots = [(float(dot.get("cx")), dot.get("fill")) for dot in svg.iter(SVG + "circle")]
    left = dots[0][0] - 460 * 35 / 50
    assert [(round(x - left), color) for x, color in dots] == [
        (322, COLORS[0]),
        (round(460 * 45 / 50), COLORS[1]),
        (round(460 * 20 / 50), COLORS[1]),
    ]


def test_a_latex_table(runs):
    """The means of a are 30 and 40: 35 and 7.07; of b 45 and 20, whose mean without the seen gtav is 20."""
    text = latex.table(read_named(runs), ["gtav"])
    assert r"mIoU (\%) & gtav* & kitti & mean of unseen \\" in text
    assert r"a & 35.00 $\pm$ 7.07 & - & - \\" in text
    assert r"b & \textbf{45.00} & \textbf{20.00} & \textbf{20.00} \\" in text


def test_runs_are_read_as_for_summaries(tmp_path, caplog, monkeypatch):
    """The folder of a training run has several evaluations; other protocols are said."""
    for name, dataset in (("eval_gtav", "gtav"), ("eval_kitti", "kitti")):
        write_results(tmp_path / "run" / name, {dataset: [0.4, 0.2, None]}, training_domains=["gtav"])
    monkeypatch.setattr(logger, "propagate", True)
    other = write_results(tmp_path / "other", {"kitti": [0.1, 0.2, None]}, mode="sliding")
    text = latex.table(read_named([f"a={tmp_path / 'run'}", f"b={other}"]), [])
    assert r"mIoU (\%) & gtav* & kitti & mean of unseen \\" in text
    assert text.startswith("% mode whole\n% mode sliding\n")
    alone = latex.table(read_named([f"a={tmp_path / 'run/eval_gtav'}"]), [])
    assert r"a & \textbf{30.00} & - \\" in alone  # nothing is the best of no numbers
    assert "not comparable: the runs differ in mode sliding or whole" in caplog.text


def test_wrong_runs_are_named(runs, tmp_path):
    with pytest.raises(MissingFile, match="nowhere"):
        read_named(["a=nowhere"])
    with pytest.raises(UserError, match="NAME=FOLDER"):
        read_named(["runs/a"])
    other = write_results(tmp_path / "4", {"gtav": [0.5]}, names=("lane",))
    with pytest.raises(UserError, match="different classes"):
        read_named([*runs, f"c={other}"])
    with pytest.raises(UserError, match="kitti"):
        classes.draw(read_named(runs), "kitti")
