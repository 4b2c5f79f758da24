"""Bars, dots and tables from saved results: positions by hand."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from scripts.figure import classes, domains, latex
from scripts.figure.__main__ import main
from scripts.figure.canvas import COLORS, Line, Words, text_width
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
    bars = [box for box in svg.iter(SVG + "rect") if box.get("height") == "13"]
    assert [bar.get("width") for bar in bars] == ["210", "336", "84", "42"]
    assert [bar.get("fill") for bar in bars] == [COLORS[0], COLORS[1]] * 2
    words = [text.text for text in svg.iter(SVG + "text")]
    assert {"road", "sky", "50.0", "80.0", "a (n=2)", "b (n=1)", "IoU (%) on gtav"} <= {*words}
    assert "car" not in words and "Mean and standard deviation over n seeds." in words


def test_domains_that_were_trained_on_are_marked(tmp_path):
    more = {"averaged": {"gtav": [0, 1]}, "training_domains": ["gtav"]}
    run = write_results(tmp_path / "1", {"gtav": [0.4, 0.2, None], "kitti": [0.4, 0.1, None]}, **more)
    runs = read_named([f"a={run}"])
    for canvas, title in ((classes.draw(runs, "gtav"), "IoU (%) on gtav*"), (domains.draw(runs), "gtav*")):
        words = [text.text for text in ElementTree.fromstring(canvas.svg()).iter(SVG + "text")]
        assert title in words and "* trained on or adapted to." in words and "a" in words
        assert "mIoU is the mean over 2 classes (gtav)." in words and "Protocol: mode whole." in words
    assert {"kitti", "mean of unseen", "mIoU (%)"} <= {*words}
    words = [
        text.text for text in ElementTree.fromstring(classes.draw(runs, "kitti").svg()).iter(SVG + "text")
    ]
    assert "IoU (%) on kitti" in words and not any(word.startswith("*") for word in words)


def test_error_bars_stay_on_the_axis_and_words_inside(tmp_path):
    """Road of a: 0.02 and 0.3, deviation 0.198 above the mean of 0.16: its bar would begin left of 0."""
    runs = [write_results(tmp_path / str(i), {"gtav": [iou, 0.5, None]}) for i, iou in enumerate((0.02, 0.3))]
    long = [f"a long name of a method {i}={run}" for i in range(3) for run in runs]
    for canvas in (classes.draw(read_named(long), "gtav"), domains.draw(read_named(long))):
        for shape in canvas.shapes:
            if isinstance(shape, Words):
                width = text_width(shape.text)
                start = shape.x - {"left": 0, "middle": width / 2, "right": width}[shape.side]
                assert 0 <= start and start + width <= canvas.width and 0 < shape.y < canvas.height
        left = min(shape.x for shape in canvas.shapes if isinstance(shape, Line))
        zero = next(shape.x for shape in canvas.shapes if isinstance(shape, Words) and shape.text == "0")
        assert left == zero


def test_svg_and_png_show_the_same(runs, tmp_path):
    for suffix in (".svg", ".png"):
        main(["classes", *runs, "--dataset", "gtav", "--out", str(tmp_path / f"deep/bars{suffix}")])
    svg = ElementTree.parse(tmp_path / "deep/bars.svg").getroot()
    bar = [box for box in svg.iter(SVG + "rect") if box.get("width") == "336"][0]
    with Image.open(tmp_path / "deep/bars.png") as picture:
        assert picture.size == (2 * int(svg.get("width")), 2 * int(svg.get("height")))
        row = np.asarray(picture)[2 * round(float(bar.get("y"))) + 4]
    orange = np.flatnonzero((row == (213, 94, 0)).all(1))
    assert abs(len(orange) - 2 * 336) <= 2
    with pytest.raises(UserError, match="bars.pdf"):
        main(["classes", *runs, "--dataset", "gtav", "--out", str(tmp_path / "bars.pdf")])


def test_a_dot_per_domain_and_method(runs):
    """a scores 35% on gtav (deviation 7.07) and has no kitti; b 45 and 20, in the mean 32.5. The axis ends at
    50%: 460 px. No two dots are at one height."""
    canvas = domains.draw(read_named(runs))
    svg = ElementTree.fromstring(canvas.svg())
    dots = [(float(dot.get("cx")), dot.get("fill")) for dot in svg.iter(SVG + "circle")]
    left = dots[0][0] - 460 * 35 / 50
    assert [(round(x - left), color) for x, color in dots] == [
        (322, COLORS[0]),
        (round(460 * 45 / 50), COLORS[1]),
        (round(460 * 20 / 50), COLORS[1]),
        (round(460 * 32.5 / 50), COLORS[1]),
    ]
    heights = [float(dot.get("cy")) for dot in svg.iter(SVG + "circle")]
    assert min(b - a for a, b in zip(heights, heights[1:], strict=False)) >= 13


def test_a_latex_table(runs):
    """The means of a are 30 and 40: 35 and 7.07; of b 45 and 20, whose mean without the seen gtav is 20."""
    text = latex.table(read_named(runs), ["gtav"])
    assert r"mIoU (\%) & seeds & gtav* & kitti & mean of unseen \\" in text
    assert r"a & 2 & 35.00 $\pm$ 7.07 & - & - \\" in text
    assert r"b & 1 & 45.00 & 20.00 & 20.00 \\" in text  # one seed says nothing about chance
    assert r"\caption{Mean and standard deviation over n seeds. Protocol: mode whole." in text


def test_only_what_chance_does_not_explain_is_bold(tmp_path):
    """Means of 50 and 30 with deviations of 1 differ; on the domain trained on, bold would mean nothing."""
    named = []
    for name, base in (("a", 0.5), ("b", 0.3)):
        for i in range(3):
            scores = {"gtav": [base + i / 100] * 2, "kitti": [base + i / 100] * 2, "idd": [0.4 + i / 100] * 2}
            more = {"training_domains": ["gtav"], "names": ("road", "sky")}
            named.append(f"{name}={write_results(tmp_path / f'{name}{i}', scores, **more)}")
    text = latex.table(read_named(named), [])
    assert r"a & 3 & 51.00 $\pm$ 1.00 & \textbf{51.00 $\pm$ 1.00} & 41.00 $\pm$ 1.00 & \textbf{46.00" in text
    assert r"b & 3 & 31.00 $\pm$ 1.00 & 31.00 $\pm$ 1.00 & 41.00 $\pm$ 1.00 & 36.00" in text
    assert "Welch's t-test over seeds against every other method gives p $<$ 0.05." in text


def test_the_best_is_better_than_each_other_beyond_chance():
    """t of the means 2 and 0 with deviations of 1: of 3 seeds 2.449, p = 0.0705; of 4 seeds 2.828, p = 0.030.

    (4 seeds: deviation 1 is that of +-sqrt(3)/2; t = 2 / sqrt(1/4 + 1/4), 6 degrees of freedom.)
    """
    three, four = (-1.0, 0.0, 1.0), (-(0.75**0.5), -(0.75**0.5), 0.75**0.5, 0.75**0.5)
    assert latex.clearly_best([three, [x + 2 for x in three]]) is None
    assert latex.clearly_best([four, [x + 2 for x in four]]) == 1
    assert latex.clearly_best([four, [x + 2 for x in four], [x + 2 for x in four]]) is None
    assert latex.clearly_best([four, [x + 2 for x in four], [math.nan] * 4]) == 1
    assert latex.clearly_best([four, [x + 2 for x in four], [0.1]]) is None
    assert latex.clearly_best([[0.1, 0.1], [0.2, 0.2]]) == 1 and latex.clearly_best([four]) is None


def test_runs_are_read_as_for_summaries(tmp_path, caplog, monkeypatch):
    """The folder of a training run has several evaluations; other protocols are said."""
    for name, dataset in (("eval_gtav", "gtav"), ("eval_kitti", "kitti")):
        write_results(tmp_path / "run" / name, {dataset: [0.4, 0.2, None]}, training_domains=["gtav"])
    monkeypatch.setattr(logger, "propagate", True)
    other = write_results(tmp_path / "other", {"kitti": [0.1, 0.2, None]}, mode="sliding")
    text = latex.table(read_named([f"a={tmp_path / 'run'}", f"b={other}"]), [])
    assert r"mIoU (\%) & seeds & gtav* & kitti & mean of unseen \\" in text
    assert "Protocol: mode whole. Protocol: mode sliding. Not comparable: the runs differ in mode" in text
    alone = latex.table(read_named([f"a={tmp_path / 'run/eval_gtav'}"]), [])
    assert r"a & 1 & 30.00 & - \\" in alone
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
