"""The study's drawings: bars by domain, lines over layers or iterations, covariances, and predictions."""

import base64
import io
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets import get_dataset_class
from datasets.toy_city import write_pair
from scripts.figure.canvas import COLORS, INK, QUIET, Canvas, Dot, Line, Polyline, Words, text_width
from scripts.figure.classes import bars
from scripts.study.plan import METHODS, SIZES, TASKS
from scripts.study.probe import POSITIONS
from scripts.study.results import Comparison, Spread
from utils.classes import CITYSCAPES
from utils.visualize import colorize

WIDTH, HEIGHT, LEFT, TOP = 460, 220, 46, 52  # px: of a plot, left of it, above it
DOTS = 10  # places up to which a line has a dot at each
PANEL, GAP, TITLE = 132, 4, 20  # px: of a small picture, between two, of a row of titles


def domains(comparison: Comparison) -> Canvas:
    """Return bars of the mean IoU by domain and method, with the standard deviation over seeds."""
    names = [name for name in comparison.columns if name not in TASKS[comparison.task].groups]
    scores = {
        method: [
            (value.mean, 0 if math.isnan(value.std) else value.std)
            for value in (comparison.spread(method, name) for name in names)
        ]
        for method in comparison.runs
    }
    return bars(names, scores, colors=colors(scores))


def colors(names: Iterable[str]) -> list[str]:
    """Return a colour for each name, that of a method in all tasks; by position if there are other names."""
    shown = [*names]
    order = [*METHODS] if set(shown) <= METHODS.keys() else shown
    return [COLORS[order.index(name) % len(COLORS)] for name in shown]


def lines(series: Mapping[str, Sequence[Spread]], ticks: Sequence[str], title: str) -> Canvas:
    """Return a line per name through its values at `ticks`, which are equally far apart.

    Standard deviations are upright lines. The vertical axis starts at 0.
    """
    canvas = Canvas(LEFT + WIDTH + 20 + max(map(text_width, series), default=0), TOP + HEIGHT + 34)
    canvas.add(Words(8, 14, title, color=INK))
    top = max((value.mean for row in series.values() for value in row if value.mean == value.mean), default=1)
    unit = 10 ** math.floor(math.log10(top or 1))
    step = unit / 5 if top < 1.5 * unit else unit / 2 if top < 4 * unit else unit
    most = step * math.ceil(top / step * 1.02)
    for number in range(round(most / step) + 1):
        y = TOP + HEIGHT * (1 - number * step / most)
        text = f"{number * step:.{max(0, -math.floor(math.log10(step)))}f}"
        canvas.add(Line(LEFT, y, LEFT + WIDTH, y, "#eaeef2"), Words(LEFT - 6, y, text, "right", QUIET))
    places = [LEFT + WIDTH * (i + 0.5) / len(ticks) for i in range(len(ticks))]
    for x, tick in zip(places, ticks, strict=True):
        canvas.add(Words(x, TOP + HEIGHT + 16, tick, "middle", QUIET))
    ends = []
    for color, (name, row) in zip(colors(series), series.items(), strict=True):
        points = [(x, TOP + HEIGHT * (1 - v.mean / most), v) for x, v in zip(places, row, strict=True)]
        points = [point for point in points if not math.isnan(point[2].mean)]
        canvas.add(Polyline([(x, y) for x, y, _ in points], color, 2))
        for x, y, value in points:
            if len(ticks) <= DOTS:
                canvas.add(Dot(x, y, 3, color))
            if not math.isnan(value.std):
                reach = HEIGHT * value.std / most
                canvas.add(Line(x, y - reach, x, y + reach, color))
        if points:
            ends.append((points[-1][1], points[-1][0], name, color))
    heights = apart([y for y, *_ in sorted(ends)], TOP + HEIGHT)
    for y, (_, x, name, color) in zip(heights, sorted(ends), strict=True):
        canvas.add(Words(x + 10, y, name, color=color))
    return canvas


def apart(heights: Sequence[float], most: float) -> list[float]:
    """Return ascending heights moved down to be a line apart; all of them up if the last is below `most`."""
    found: list[float] = []
    for y in heights:
        found.append(max([y, *(above + 14 for above in found[-1:])]))
    over = max(0.0, found[-1] - most) if found else 0.0
    return [y - over for y in found]


def dots(points: Mapping[str, Sequence[tuple[float, float]]], horizontal: str, vertical: str) -> Canvas:
    """Return a dot for each (x, y) of each method; the axes, named so, show the range of the values."""
    canvas = Canvas(LEFT + WIDTH + 100, TOP + HEIGHT + 54)
    canvas.add(Words(8, 14, vertical), Words(LEFT + WIDTH / 2, TOP + HEIGHT + 38, horizontal, "middle"))
    (low, high), (bottom, top) = (
        (min(values), max(values))
        for values in zip(*[p for row in points.values() for p in row], strict=True)
    )
    width, height = high - low or 1.0, top - bottom or 1.0
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + WIDTH * share, TOP + HEIGHT * (1 - share)
        canvas.add(Line(LEFT, y, LEFT + WIDTH, y, "#eaeef2"), Line(x, TOP, x, TOP + HEIGHT, "#eaeef2"))
        canvas.add(Words(LEFT - 6, y, f"{bottom + share * height:.1f}", "right", QUIET))
        canvas.add(Words(x, TOP + HEIGHT + 16, f"{low + share * width:.2f}", "middle", QUIET))
    for number, (color, (name, row)) in enumerate(zip(colors(points), points.items(), strict=True)):
        place = TOP + 8 + 18 * number
        canvas.add(Dot(LEFT + WIDTH + 20, place, 5, color), Words(LEFT + WIDTH + 32, place, name))
        for x, y in row:
            left, down = LEFT + WIDTH * (x - low) / width, TOP + HEIGHT * (top - y) / height
            canvas.add(Dot(left, down, 5, color))
    return canvas


def covariances(baseline: Mapping[str, Any], isw: Mapping[str, Any]) -> Image.Image:
    """Draw, by position, mean |covariance| of the baseline and of ISW, and the pairs that ISW suppresses.

    Both are the `mechanism` of results that keep each pair's covariance. White is 0, dark is 0.5 or more.
    """
    titles, side = ("baseline", "ISW", "suppressed by ISW"), 170
    picture = Image.new("RGB", (3 * (side + 8) + 96, TITLE + 3 * (side + 8)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for column, title in enumerate(titles):
        pen.text((96 + column * (side + 8), 4), title, INK, font)
    for row, name in enumerate(POSITIONS):
        plain, selected = (run["covariance"][name] for run in (baseline, isw))
        top = TITLE + row * (side + 8)
        label = f"position {row + 2}\n{name}\n{plain['channels']} channels"
        pen.multiline_text((4, top + side / 2 - 24), label, INK, font)
        drawn = [sizes(plain) * 2, sizes(selected) * 2, suppressed(selected).astype(float)]
        for column, values in enumerate(drawn):
            grey = square(255 * (1 - values.clip(0, 1)), plain["channels"])
            panel = Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(panel, (96 + column * (side + 8), top))
            pen.rectangle(
                (96 + column * (side + 8), top, 95 + column * (side + 8) + side, top + side - 1), None, QUIET
            )
    return picture.quantize(64)


def sizes(kept: Mapping[str, Any]) -> np.ndarray:
    """Return mean |covariance| of each pair of channels, in the order of the upper triangle's rows."""
    return np.frombuffer(base64.b85decode(kept["sizes"]), np.uint8) / 255


def suppressed(kept: Mapping[str, Any]) -> np.ndarray:
    """Return which pairs of channels ISW suppresses, bool, in the same order."""
    pairs = kept["channels"] * (kept["channels"] - 1) // 2
    return np.unpackbits(np.frombuffer(base64.b85decode(kept["mask"]), np.uint8))[:pairs].astype(bool)


def square(pairs: np.ndarray, channels: int) -> np.ndarray:
    """Return the symmetric matrix uint8 (C, C) of the values of pairs; the diagonal is white."""
    matrix = np.full((channels, channels), 255, np.uint8)
    rows, columns = np.triu_indices(channels, 1)
    matrix[rows, columns] = matrix[columns, rows] = pairs.round()
    return matrix


def strip(comparison: Comparison) -> Image.Image | None:
    """Return a row per shown image: image, truth, and the prediction of each method's first seed.

    Image and truth are rendered again. None if no run has predictions.
    """
    runs = {method: seeds[0] for method, seeds in comparison.runs.items() if seeds.get(0, {}).get("pictures")}
    if not runs:
        return None
    size = SIZES[next(iter(runs.values()))["size"]]
    shown = [key for key in next(iter(runs.values()))["pictures"]]
    height = round(PANEL * size.height / size.width)
    picture = Image.new(
        "RGB", ((len(runs) + 2) * (PANEL + GAP) - GAP, TITLE + len(shown) * (height + GAP) - GAP), "white"
    )
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for column, title in enumerate(("image", "truth", *runs)):
        pen.text((column * (PANEL + GAP) + 2, 3), title, INK, font)
    for row, key in enumerate(shown):
        predicted = [Image.open(io.BytesIO(base64.b64decode(run["pictures"][key]))) for run in runs.values()]
        photo, *maps = [*rendered(key, (size.height, size.width)), *predicted]
        panels = [photo.resize((PANEL, height), Image.Resampling.LANCZOS)]
        panels += [one.resize((PANEL, height), Image.Resampling.NEAREST) for one in maps]
        for column, panel in enumerate(panels):
            place = column * (PANEL + GAP), TITLE + row * (height + GAP)
            picture.paste(panel.convert("RGB"), place)
    return picture.quantize(128)


def rendered(key: str, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Return a validation image of the toy town, "domain:number", and its painted truth."""
    domain, number = key.split(":")
    kind = get_dataset_class(domain)
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), domain, "val", int(number), size, 0)
        dataset = kind(Path(folder, kind.root_name or domain), "val", None)
        image, label = map(np.array, dataset.open(dataset.samples[0]))
    return Image.fromarray(image), colorize(label, CITYSCAPES.colors)
