"""Draw a strip for a page or a paper: a row per image with photograph, truth and each network's prediction.

Without --images, the rows are the images on which the networks differ most: those with the largest range of
mean IoU. The command prints each image's scores.
"""

import argparse
import heapq
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import config
from datasets import DATASETS, get_dataset_class
from network import load
from network.segmenter import Segmenter
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import UserError
from utils.evaluation.metrics import count_pixels, summarize
from utils.evaluation.tables import percent, text_table
from utils.files import named_path
from utils.visualize import colorize

GAP, TITLE = 6, 22  # px between panels, and of the row of titles


class Row(NamedTuple):
    """What one row of the strip shows."""

    name: str
    image: np.ndarray  # uint8 RGB (H, W, 3)
    label: np.ndarray  # uint8 (H, W) train ids
    predictions: list[np.ndarray]  # the same, one per network
    scores: list[float]  # mean IoU of each prediction


def predict(sample, dataset, nets: list[Segmenter], classes: ClassTable) -> Row:
    """Predict one image with every network."""
    image, label = map(np.array, dataset.open(sample))
    predictions = [net.segment(image) for net in nets]
    scores = []
    for pred in predictions:
        counts, _ = count_pixels(torch.from_numpy(label), torch.from_numpy(pred), len(classes))
        scores.append(summarize(counts, dataset.occurring).mean_iu)
    return Row(dataset.name_of(sample), image, label, predictions, scores)


def most_different(rows: Iterable[Row], count: int) -> list[Row]:
    """Return the `count` rows with the largest range of scores, largest first; no more are kept in memory."""
    return heapq.nlargest(count, rows, key=lambda row: max(row.scores) - min(row.scores))


def draw(rows: list[Row], titles: list[str], classes: ClassTable, width: int) -> Image.Image:
    """Return the strip; each panel is `width` px wide."""
    lines = []
    for row in rows:
        panels = [Image.fromarray(row.image), colorize(row.label, classes.colors)]
        panels += [colorize(pred, classes.colors) for pred in row.predictions]
        height = round(width * panels[0].height / panels[0].width)
        photo, *maps = panels
        size = width, height
        maps = [picture.resize(size, Image.Resampling.NEAREST).convert("RGB") for picture in maps]
        lines.append([photo.resize(size, Image.Resampling.LANCZOS), *maps])
    total = TITLE + sum(line[0].height + GAP for line in lines) - GAP
    strip = Image.new("RGB", (len(titles) * (width + GAP) - GAP, total), "white")
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        pen.text((column * (width + GAP) + 2, 2), title, "black", font)
    top = TITLE
    for line in lines:
        for column, panel in enumerate(line):
            strip.paste(panel, (column * (width + GAP), top))
        top += line[0].height + GAP
    return strip


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("networks", nargs="+", metavar="TITLE=CHECKPOINT", help="file of a network, or a run's folder")
    add("--dataset", required=True, choices=DATASETS, help="what is shown")
    add("--split", default="val", help="split of the dataset")
    add("--data_root", help="folder of the datasets by name")
    add("--images", nargs="*", help="names of images (default: those that differ most)")
    add("--count", type=int, default=3, help="rows, without --images")
    add("--width", type=int, default=240, help="of a panel, px")
    add("--out", type=Path, required=True, help="picture to write, .png")


def run(args: argparse.Namespace) -> None:
    titles, paths = zip(*map(named_path, args.networks), strict=True)
    if not (all(titles) and all(paths)):
        raise UserError(f"networks are given as TITLE=CHECKPOINT, not {' '.join(args.networks)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    nets = [load(path, device=device) for path in paths]
    kind = get_dataset_class(args.dataset)
    dataset = kind(config.Roots(args.data_root)(kind), args.split, None)
    classes = kind.classes or CITYSCAPES
    chosen = [s for s in dataset.samples if not args.images or dataset.name_of(s) in args.images]
    if args.images and len(chosen) < len(args.images):
        raise UserError(f"not all of --images {' '.join(args.images)} are in {args.dataset} {args.split}")
    predicted = (predict(sample, dataset, nets, classes) for sample in chosen)
    rows = [*predicted] if args.images else most_different(predicted, args.count)
    print(text_table([["mIoU (%)", *titles], *([row.name, *map(percent, row.scores)] for row in rows)]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows, ["image", "truth", *titles], classes, args.width).quantize(256).save(args.out, optimize=True)
    print(f"written to {args.out}")
