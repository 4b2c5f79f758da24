"""Draw the mean IoU on each domain: a dot per method, with the standard deviation over its seeds."""

import argparse
import math
from pathlib import Path

from scripts.figure.canvas import COLORS, QUIET, Canvas, Dot, Line, Words, check_suffix, text_width
from scripts.figure.classes import legend, spread
from utils.evaluation.saved import Saved, read_named

ROW, WIDTH, TOP = 30, 460, 46  # px: of a domain, of the axis, above the first domain


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=RESULTS", help="folders of eval.py; equal names are seeds"
    )
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .svg or .png")


def run(args: argparse.Namespace) -> None:
    check_suffix(args.out)
    draw(read_named(args.runs)).write(args.out)
    print(f"written to {args.out}")


def draw(runs: dict[str, list[Saved]]) -> Canvas:
    """Return the drawing; a method without scores of a domain has no dot there."""
    domains = [
        *dict.fromkeys(domain for seeds in runs.values() for saved in seeds for domain in saved.main_means)
    ]
    left = max(map(text_width, domains)) + 14
    canvas = Canvas(left + WIDTH + 30, TOP + ROW * len(domains) + 8)
    legend(canvas, [*runs], left, 12)
    points = {
        name: [spread([saved.main_means.get(domain, math.nan) for saved in seeds]) for domain in domains]
        for name, seeds in runs.items()
    }
    top = max(
        (mean + deviation for row in points.values() for mean, deviation in row if mean == mean), default=1
    )
    most = min(100, 10 * math.ceil(10 * top))  # percent at the right end of the axis
    for percent in range(0, most + 1, 10 if most > 30 else 5):
        x = left + WIDTH * percent / most
        canvas.add(
            Line(x, TOP - 6, x, canvas.height - 8, "#eaeef2"),
            Words(x, TOP - 14, str(percent), "middle", QUIET),
        )
    for i, domain in enumerate(domains):
        y = TOP + ROW * (i + 0.5)
        canvas.add(Words(left - 8, y, domain, "right"), Line(left, y, left + WIDTH, y, "#eaeef2"))
        for j, row in enumerate(points.values()):
            mean, deviation = (100 * WIDTH / most * value for value in row[i])
            if not math.isnan(mean):
                color = COLORS[j % len(COLORS)]
                canvas.add(Line(left + mean - deviation, y, left + mean + deviation, y, color, 2))
                canvas.add(Dot(left + mean, y, 5, color))
    return canvas
