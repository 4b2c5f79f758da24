from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from utils.classes import ClassTable
from utils.evaluation.calibration import ONE
from utils.evaluation.counts import Counts, Measures
from utils.evaluation.html_report import page
from utils.evaluation.progress import picture_path
from utils.evaluation.protocol import Protocol
from utils.evaluation.scores import Results, score_dataset
from utils.evaluation.sweep import NOTE

CLASSES = ClassTable(("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))
PROTOCOL = Protocol("whole", (1.0,), False, 64, 0.5, "float32", "val", 0, "full", False, False)


class Reader(HTMLParser):
    """Collects tags, what they refer to, and text; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def results(tmp_path):
    """Images a/1 (IoU 1), a/2 (road 1/2, sky 0: 1/4) and a/3 (0), each with a picture; one without labels."""
    counts = torch.zeros(3, 3, 3, dtype=torch.int64)
    counts[0, 0, 0], counts[1, 0, :2], counts[2, 0, 1] = 8, 4, 8
    folder = tmp_path / "records" / "a b_val"
    images = {f"a/{i}": Counts(one) for i, one in enumerate(counts, start=1)}
    for name in images:
        picture_path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 2)).save(picture_path(folder, name))
    datasets = {
        "town": score_dataset(images, CLASSES, {}, [folder]),
        "folder": score_dataset({"a/1": Counts(0 * counts[0])}, CLASSES, {}, [folder]),
    }
    return Results(
        "run <1>", CLASSES, datasets, {}, ["town"], PROTOCOL, "eval.py", "net.pth", "0" * 64, 0.0, {}
    )


def test_page_says_all_and_needs_nothing_else(tmp_path, results):
    """12 of 24 road pixels are right, the others taken for sky: IoU 50 and 0, mean 25."""
    read = Reader(page(results, {"command": "eval.py <x>"}, tmp_path))
    assert not {"script", "link", "iframe"} & set(read.tags)
    for words in (
        "run <1>",
        "eval.py <x>",
        "25.00",
        "50.00",
        "over 3 images",
        "not in the mean",
        "mean over 2 classes (town)",
        "split val",
    ):
        assert words in read.text
    assert "1 image without labels" in read.text and "* trained on" in read.text
    order = [
        read.text.index(words) for words in ("best: a/1", "median: a/2", "worst 1: a/3", "example 1: a/1")
    ]
    assert order == sorted(order)
    assert read.links.pop(0) == "#town"
    assert len(read.links) == 4
    assert all((tmp_path / link.replace("%20", " ")).is_file() for link in read.links)


def test_classes_by_domains_at_the_top_with_absent_classes_folded_away(tmp_path, results):
    text = page(results, {}, tmp_path)
    top = text[: text.index("<h2")]
    assert top.index("mIoU (%)") < top.index(">mean<") < top.index("road") < top.index("sky")
    assert "50.00" in top and "<details>" in top and top.index("<details>") < top.index(">car<")


def test_large_pictures_are_linked_where_they_are_there(tmp_path, results):
    """Two datasets, so the large pictures of town are in town_val."""
    for kind, suffix in (("compose", "_compose"), ("diff", "_diff")):
        (tmp_path / f"town_val/{kind}/a").mkdir(parents=True)
        (tmp_path / f"town_val/{kind}/a/3{suffix}.png").touch()
    links = Reader(page(results, {}, tmp_path)).links
    assert [link for link in links if "town_val" in link] == [
        "town_val/compose/a/3_compose.png",
        "town_val/diff/a/3_diff.png",
    ]


def test_measures_and_scales(tmp_path, results):
    """8 pixels of confidence 1, 6 of them right: ECE 25. Bands: road 3 of 4, sky 1 of 2, mean 62.5."""
    counts = Counts(
        torch.tensor([[4, 1, 0], [1, 2, 0], [0, 0, 0]]),
        torch.tensor([[0, 8], [0, 6], [0, 8 * ONE]]),
        torch.tensor([[3, 1, 0], [4, 2, 0]]),
    )
    scores = score_dataset({"a": counts}, CLASSES, {}, [])
    datasets = {"town": scores, "town@scale-0.5": scores}
    read = Reader(page(replace(results, datasets=datasets, measures=Measures(2, 0.02)), {}, tmp_path))
    assert read.tags.count("svg") == 1 and "nan" not in read.text
    for words in ("Calibration: expected error 25.00%", "boundary IoU 62.50", "ECE 25.00", "75.00", NOTE):
        assert words in read.text
    assert "scale 0.5" in read.text and "62.50 (best)" in read.text
    assert Reader(page(results, {}, tmp_path)).tags.count("svg") == 0
