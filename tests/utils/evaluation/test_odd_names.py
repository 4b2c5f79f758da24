"""Names of images that mean something in HTML or CSV stay names."""

import csv
import io
import re
from dataclasses import replace
from html import escape
from urllib.parse import quote

import torch
from PIL import Image

from utils.classes import ClassTable
from utils.evaluation import tables
from utils.evaluation.counts import Counts
from utils.evaluation.html_report import page
from utils.evaluation.progress import picture_path
from utils.evaluation.protocol import Protocol
from utils.evaluation.saved import read_images
from utils.evaluation.scores import Results, score_dataset
from utils.files import safe_name, write_text

CLASSES = ClassTable(("road", "sky"), ((128, 64, 128), (70, 130, 180)))
PROTOCOL = Protocol("whole", (1.0,), False, 64, 0.5, "float32", "val", 0, "full", False, False)
NAMES = ["<script>alert(1)", "<img src=x onerror='f()'>", 'a,"b",c', "a;b", "x&amp;y", "100%20#?"]
NAMES += ["=1+1", "-2+3", "'@SUM"]


def results(folder):
    counts = Counts(torch.tensor([[4, 0], [0, 4]]))
    for name in NAMES:
        assert safe_name(name) == name
        path = picture_path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 2)).save(path)
    scores = score_dataset(dict.fromkeys(NAMES, counts), CLASSES, {}, [folder])
    return Results(
        "run", CLASSES, {"town": scores}, {}, [], PROTOCOL, "eval.py", "net.pth", "0" * 64, 0.0, {}
    )


def test_html(tmp_path):
    text = page(results(tmp_path / "records/town_val"), {}, tmp_path)
    assert "<script>" not in text and not re.search(r"<img src=x|onerror='", text)
    for name in NAMES[:2]:
        assert escape(name) in text and f"{quote(name)}.jpg" in text


def test_csv(tmp_path):
    """No cell begins like a formula, and the names that are read back are the images'."""
    scored = results(tmp_path / "records/town_val")
    text = tables.csv_table(tables.exact_image_rows(scored))
    cells = [row[1] for row in csv.reader(io.StringIO(text))]
    assert "'=1+1" in cells and "''@SUM" in cells and not any(cell[:1] in "=+-@" for cell in cells)
    write_text(tmp_path / "images.csv", text)
    assert sorted(read_images(tmp_path / "images.csv")["town"]) == sorted(NAMES)


def test_csv_of_classes(tmp_path):
    classes = ClassTable(("=road", "@sky"), CLASSES.colors)
    scored = replace(results(tmp_path / "records/town_val"), classes=classes)
    text = tables.csv_table(tables.exact_class_rows(scored))
    assert {"'=road", "'@sky"} <= {row[1] for row in csv.reader(io.StringIO(text))}
