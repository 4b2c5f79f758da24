"""Draw the IoU of each class on one dataset: a bar per method, with the standard deviation over its seeds."""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.figure.canvas import COLORS, INK, QUIET, Box, Canvas, Line, Words, check_suffix, text_width
from utils.errors import UserError
from utils.evaluation.saved import Saved, read_named

BAR, SPACE, WIDTH, TOP = 14, 8, 420, 46  # px: a bar, between classes, of 100%, above the first class


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=RESULTS", help="folders of eval.py; equal names are seeds"
    )
    parser.add_argument("--dataset", required=True, help="the dataset whose scores are drawn")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .svg or .png")


def run(args: argparse.Namespace) -> None:
    check_suffix(args.out)
    draw(read_named(args.runs), args.dataset).write(args.out)
    print(f"written to {args.out}")


def draw(runs: dict[str, list[Saved]], dataset: str) -> Canvas:
    """Return the drawing; UserError if a run has no scores of `dataset`."""
    for name, seeds in runs.items():
        if missing := [saved for saved in seeds if dataset not in saved.ious]:
            raise UserError(f"{name} has no scores of {dataset}, only of {', '.join(missing[0].ious)}")
    classes = next(iter(runs.values()))[0].classes
    scores = {
        name: [spread([saved.ious[dataset][i] for saved in seeds]) for i in range(len(classes))]
        for name, seeds in runs.items()
    }
    return bars(classes, scores)


def bars(names: Sequence[str], scores: Mapping[str, Sequence[tuple[float, float]]]) -> Canvas:
    """Return a bar per method for each of `names`, from mean and standard deviation in [0, 1] by method.

    A name of which no method has a score is left out.
    """
    shown = [i for i in range(len(names)) if any(not math.isnan(row[i][0]) for row in scores.values())]
    left = max(text_width(names[i]) for i in shown) + 14
    step = BAR * len(scores) + SPACE
    canvas = Canvas(left + WIDTH + 60, TOP + step * len(shown) + 8)
    legend(canvas, [*scores], left, 12)
    for percent in range(0, 101, 20):
        x = left + WIDTH * percent / 100
        canvas.add(
            Line(x, TOP - 6, x, canvas.height - 8, "#eaeef2"),
            Words(x, TOP - 14, str(percent), "middle", QUIET),
        )
    for place, i in enumerate(shown):
        top = TOP + step * place
        canvas.add(Words(left - 8, top + BAR * len(scores) / 2, names[i], "right"))
        for j, row in enumerate(scores.values()):
            mean, deviation = row[i]
            y = top + BAR * j
            if not math.isnan(mean):
                end = left + WIDTH * mean
                canvas.add(Box(left, y, WIDTH * mean, BAR - 1, COLORS[j % len(COLORS)]))
                if deviation:
                    middle, reach = y + BAR / 2, WIDTH * deviation
                    canvas.add(Line(end - reach, middle, end + reach, middle, INK))
                canvas.add(Words(end + WIDTH * deviation + 4, y + BAR / 2, f"{100 * mean:.1f}", color=QUIET))
    return canvas


def spread(scores: list[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (n - 1; 0 for one score), nan if any score is nan."""
    if any(map(math.isnan, scores)):
        return math.nan, 0.0
    return statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0


def legend(canvas: Canvas, names: list[str], x: float, y: float) -> None:
    """Draw the methods' names beside their colours in one line."""
    for i, name in enumerate(names):
        canvas.add(Box(x, y - 5, 10, 10, COLORS[i % len(COLORS)]), Words(x + 15, y, name))
        x += 33 + text_width(name)
