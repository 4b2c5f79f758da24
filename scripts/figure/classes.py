"""Draw the IoU of each class on one dataset: a bar per method, with the standard deviation over its seeds."""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.evaluations import RUNS_HELP, add_domain_flags, explained, seen_columns, with_seeds
from scripts.figure.axis import BELOW, axis, caption, error_bar, legend
from scripts.figure.canvas import COLORS, QUIET, Box, Canvas, Words, check_suffix, text_width
from utils.errors import UserError
from utils.evaluation.saved import Saved, read_named

BAR, SPACE, WIDTH = 14, 8, 420  # px: a bar, between classes, of 100%


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help=RUNS_HELP)
    parser.add_argument("--dataset", required=True, help="whose scores are drawn, as camvid or camvid_test")
    add_domain_flags(parser)
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .svg or .png")


def run(args: argparse.Namespace) -> None:
    check_suffix(args.out)
    runs = read_named(args.runs)
    draw(runs, args.dataset, args.seen, args.unseen).write(args.out)
    print(f"written to {args.out}")


def draw(
    runs: dict[str, list[Saved]], dataset: str, seen: Sequence[str] = (), unseen: Sequence[str] = ()
) -> Canvas:
    """Return the drawing; UserError if a run has no scores of `dataset`."""
    every = [saved for seeds in runs.values() for saved in seeds]
    for name, seeds in runs.items():
        if missing := [saved for saved in seeds if dataset not in saved.ious]:
            raise UserError(f"{name} has no scores of {dataset}, only of {', '.join(missing[0].ious)}")
    classes = every[0].classes
    scores = {
        title: [spread([saved.ious[dataset][i] for saved in seeds]) for i in range(len(classes))]
        for title, seeds in with_seeds(runs).items()
    }
    marked = seen_columns(every, seen, unseen)
    title = f"IoU (%) on {dataset}{'*' if dataset in marked else ''}"
    return bars(classes, scores, title, explained(runs, [dataset], marked))


def bars(
    names: Sequence[str],
    scores: Mapping[str, Sequence[tuple[float, float]]],
    title: str = "IoU (%)",
    sentences: Sequence[str] = (),
    colors: Sequence[str] = COLORS,
) -> Canvas:
    """Return a bar per method for each of `names`, from mean and standard deviation in [0, 1] by method.

    A name of which no method has a score is left out. `title` is that of the axis; `sentences` are below it;
    `colors` are those of the methods, from the first again if there are more methods.
    """
    shown = [i for i in range(len(names)) if any(not math.isnan(row[i][0]) for row in scores.values())]
    left = max(text_width(names[i]) for i in shown) + 18
    step, width = BAR * len(scores) + SPACE, left + WIDTH + 60
    canvas = Canvas(width, 0)
    top = legend(canvas, [*scores], width, colors)
    bottom = top + step * len(shown)
    axis(canvas, left, top, bottom, WIDTH, 100, title)
    for place, i in enumerate(shown):
        start = top + SPACE / 2 + step * place
        canvas.add(Words(left - 8, start + BAR * len(scores) / 2, names[i], "right"))
        for j, row in enumerate(scores.values()):
            mean, deviation = row[i]
            y = start + BAR * j
            if not math.isnan(mean):
                end, reach, middle = left + WIDTH * mean, WIDTH * deviation, y + BAR / 2
                canvas.add(Box(left, y, WIDTH * mean, BAR - 1, colors[j % len(colors)]))
                error_bar(canvas, end, middle, reach, left)
                canvas.add(Words(end + reach + 5, middle, f"{100 * mean:.1f}", color=QUIET))
    caption(canvas, sentences, bottom + BELOW)
    return canvas


def spread(scores: list[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (n - 1; 0 for one score), nan if any score is nan."""
    if any(map(math.isnan, scores)):
        return math.nan, 0.0
    return statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0
