"""Draw the mean IoU on each domain: a dot per method, with the standard deviation over its seeds."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from scripts.evaluations import RUNS_HELP, add_domain_flags, explained, main_columns, seen_columns, with_seeds
from scripts.figure.axis import BELOW, GRID, axis, caption, error_bar, legend
from scripts.figure.canvas import COLORS, Canvas, Dot, Line, Words, check_suffix, text_width
from scripts.figure.classes import spread
from utils.evaluation.saved import Saved, read_named
from utils.evaluation.tables import seed_columns

LANE, SPACE, WIDTH = 13, 12, 460  # px: of a method in a domain, between domains, of the axis


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help=RUNS_HELP)
    add_domain_flags(parser)
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .svg or .png")


def run(args: argparse.Namespace) -> None:
    check_suffix(args.out)
    draw(read_named(args.runs), args.seen, args.unseen).write(args.out)
    print(f"written to {args.out}")


def draw(runs: dict[str, list[Saved]], seen: Sequence[str] = (), unseen: Sequence[str] = ()) -> Canvas:
    """Return the drawing: a row for each domain and their mean, in which each method has a lane.

    A method without scores of a domain has no dot there.
    """
    marked = seen_columns([saved for seeds in runs.values() for saved in seeds], seen, unseen)
    means = {title: [saved.main_means for saved in seeds] for title, seeds in with_seeds(runs).items()}
    titles, columns = seed_columns(means, marked)
    points = {name: [spread(scores) for scores in row] for name, row in columns.items()}
    shown = [i for i in range(len(titles)) if any(not math.isnan(row[i][0]) for row in points.values())]
    known = [mean + deviation for row in points.values() for mean, deviation in row if not math.isnan(mean)]
    most = min(100, 10 * math.ceil(10 * max(known, default=1)))  # percent at the right end of the axis
    left = max(text_width(titles[i]) for i in shown) + 18
    width, step = left + WIDTH + 30, LANE * len(points) + SPACE
    canvas = Canvas(width, 0)
    top = legend(canvas, [*points], width)
    bottom = top + step * len(shown)
    axis(canvas, left, top, bottom, WIDTH, most, "mIoU (%)")
    for place, i in enumerate(shown):
        start = top + step * place
        canvas.add(Line(left, start, left + WIDTH, start, GRID))
        canvas.add(Words(left - 8, start + step / 2, titles[i], "right"))
        for j, row in enumerate(points.values()):
            mean, deviation = (100 * WIDTH / most * value for value in row[i])
            y = start + SPACE / 2 + LANE * (j + 0.5)
            if not math.isnan(mean):
                color = COLORS[j % len(COLORS)]
                error_bar(canvas, left + mean, y, deviation, left, color)
                canvas.add(Dot(left + mean, y, 3.5, color))
    caption(canvas, explained(runs, main_columns(runs), marked), bottom + BELOW)
    return canvas
