"""The comparison of two evaluations: differences by hand, and the images that changed most."""

import csv
import json

import pytest
from PIL import Image

from scripts.compare import Change, changes, main, most_changed
from utils.errors import UserError
from utils.evaluation.saved import read


def write_run(folder, iou, images, mode="whole", **more):
    metrics = {"gtav": {"mean_iu": sum(iou) / 2, "iou": [*iou, None]}, "folder": None}
    protocol = {"mode": mode, "split": "val", "slice": [0, 1]}
    folder.mkdir()
    content = {"metrics": metrics, "classes": ["road", "<sky>", "car"], "protocol": protocol} | more
    (folder / "results.json").write_text(json.dumps(content))
    with (folder / "images.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["dataset", "image", "mean_iu"])
        rows.writerows([["gtav", name, score] for name, score in images.items()])
    return folder


@pytest.fixture
def runs(tmp_path):
    """Image a gains 0.3, b loses 0.2, c gains 0.1, d has no score in one run, e is in one run only."""
    first = write_run(tmp_path / "1", [0.4, 0.2], {"a": 0.1, "b": 0.5, "c": 0.2, "d": "", "e": 0.3})
    second = write_run(tmp_path / "2", [0.3, 0.5], {"a": 0.4, "b": 0.3, "c": 0.3, "d": 0.1})
    return first, second


def test_the_images_that_changed_most(runs):
    found = changes(*map(read, runs), "gtav")
    assert [(one.image, round(one.gain, 3)) for one in found] == [("a", 0.3), ("c", 0.1), ("b", -0.2)]
    improved, worsened = most_changed(found, 1)
    assert improved == [Change("a", 0.1, 0.4)] and worsened == [Change("b", 0.5, 0.3)]


def test_the_page(runs, tmp_path, capsys):
    """Mean IoU 30 and 40: +10; road -10, sky +30. Pictures are thumbnails below the page's folder."""
    for run in runs:
        (run / "folder_val").mkdir()
        (run / "gtav_val/compose").mkdir(parents=True)
        Image.new("RGB", (1120, 700)).save(run / "gtav_val/compose/a_compose.png")
    (runs[1] / "gtav_val/truth").mkdir()
    Image.new("RGB", (1120, 700)).save(runs[1] / "gtav_val/truth/a_truth.png")
    out = tmp_path / "out"
    main([f"base={runs[0]}", f"isw={runs[1]}", "--out", str(out)])
    assert f"{out}/index.html" in capsys.readouterr().out
    text = (out / "index.html").read_text()
    for words in ("30.00", "40.00", "+10.00", "-10.00", "+30.00", "&lt;sky&gt;", "10.00 to 40.00 (+30.00)"):
        assert words in text
    assert "car" not in text.split("</style>")[1] and "Not comparable" not in text
    with Image.open(out / "pictures/0/gtav/a.jpg") as picture:
        assert picture.size == (560, 350)
    shown = [text.index(f"src='pictures/{part}/gtav/a.jpg'") for part in ("truth", "0", "1")]
    assert shown == sorted(shown) and text.count("<img") == 3


def test_other_protocols_and_wrong_runs_are_said(runs, tmp_path):
    other = write_run(tmp_path / "3", [0.3, 0.5], {}, mode="sliding")
    main([f"a={runs[0]}", f"b={other}", "--out", str(tmp_path / "out")])
    assert "mode sliding or whole" in (tmp_path / "out/index.html").read_text()
    with pytest.raises(UserError, match="different names"):
        main([f"a={runs[0]}", f"a={other}", "--out", str(tmp_path / "out")])


def test_what_was_trained_on_and_what_is_counted_is_said(tmp_path):
    """One of the three classes is in the mean; gtav is marked, as one run was trained on it."""
    more = {"averaged": {"gtav": [1]}}
    first = write_run(tmp_path / "1", [0.4, 0.2], {}, training_domains=["gtav"], **more)
    second = write_run(tmp_path / "2", [0.3, 0.5], {}, **more)
    main([f"a={first}", f"b={second}", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out/index.html").read_text()
    assert "better in b: no image</h3>" in text
    assert ">gtav*</a>" in text and "mean over 1 classes (gtav)" in text and "3 classes" not in text
    main([f"a={first}", f"b={second}", "--unseen", "gtav", "--out", str(tmp_path / "out")])
    assert "*" not in (tmp_path / "out/index.html").read_text().split("</style>")[1]
    record = json.loads((second / "results.json").read_text())
    record["protocol"]["split"] = "test"
    (second / "results.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="in common: a has gtav; b has gtav_test"):
        main([f"a={first}", f"b={second}", "--out", str(tmp_path / "out")])


def test_other_metrics_are_compared_where_both_runs_have_them(runs, tmp_path):
    """ECE 20 and 15 is 5 less, which is green; the first run has no boundary IoU."""
    for run, more in zip(runs, ({"ece": 0.2}, {"ece": 0.15, "boundary_iou": 0.3}), strict=True):
        record = json.loads((run / "results.json").read_text())
        record["metrics"]["gtav"] |= more
        (run / "results.json").write_text(json.dumps(record))
    main([f"base={runs[0]}", f"isw={runs[1]}", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out/index.html").read_text()
    assert "<th>ECE (%)</th>" in text and "boundary IoU" not in text
    assert "<td style='background:rgba(46,125,80,0.10)'>-5.00</td>" in text
