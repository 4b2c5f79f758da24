"""Compare two evaluations on one page: scores by dataset and class, and the images that changed most.

python -m scripts.compare baseline=RUN1 isw=RUN2 --out logs/comparison

RUN1 and RUN2 are the folders of training runs with evaluations in them, or of single evaluations. With
eval.py's --dump_images, the page shows the truth and both predictions of the images that changed most.
"""

import math
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image

from scripts.evaluations import RUN_HELP, add_domain_flags, seen_columns
from utils.errors import UserError
from utils.evaluation.folder import ResultFolder, picture_file
from utils.evaluation.html_report import document
from utils.evaluation.saved import Saved, differences, protocols, read_named
from utils.evaluation.scores import METRICS
from utils.evaluation.tables import percent
from utils.exit import exit_cleanly
from utils.files import below, write_text
from utils.parser import Parser

WIDTH = 560  # px of a picture on the page


class Change(NamedTuple):
    """The mean IoU of one image in both runs."""

    image: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


def changes(first: Saved, second: Saved, dataset: str) -> list[Change]:
    """Return the images that both runs scored, the most improved first."""
    before, after = first.images.get(dataset, {}), second.images.get(dataset, {})
    found = [Change(image, before[image], after[image]) for image in before if image in after]
    return sorted((one for one in found if not math.isnan(one.gain)), key=lambda one: -one.gain)


def most_changed(found: list[Change], count: int) -> tuple[list[Change], list[Change]]:
    """Return the `count` most improved and the `count` most worsened, each with the largest change first."""
    improved = [one for one in found if one.gain > 0][:count]
    worsened = [one for one in reversed(found) if one.gain < 0][:count]
    return improved, worsened


def page(names: tuple[str, str], runs: tuple[Saved, Saved], count: int, folder: Path, seen: set[str]) -> str:
    """Return the page to write into `folder`, and write its pictures there; columns of `seen` have a mark."""
    datasets = [name for name in runs[0].means if name in runs[1].means]
    if not datasets:
        found = [
            f"{name} has {', '.join(run.means) or 'none'}" for name, run in zip(names, runs, strict=True)
        ]
        raise UserError(f"the runs have no dataset with labels in common: {'; '.join(found)}")
    title = f"{names[0]} and {names[1]}"
    body = f"<h1>{escape(title)}</h1>{_protocols(names, runs, datasets)}"
    starred = "<p>* a run was trained on it or adapted to it</p>" if seen & {*datasets} else ""
    body += f"<section>{_table(names, runs, datasets, seen)}{starred}</section>"
    for dataset in datasets:
        improved, worsened = most_changed(changes(*runs, dataset), count)
        body += f"<section><h2 id='{quote(dataset)}'>{escape(dataset)}</h2>"
        for text, found in ((f"better in {names[1]}", improved), (f"worse in {names[1]}", worsened)):
            figures = [_figure(names, runs, dataset, one, folder) for one in found]
            number = f"the {len(found)} largest changes" if found else "no image"
            body += f"<h3>{escape(text)}: {number}</h3>{''.join(figures)}"
        body += "</section>"
    return document(title, body)


def _protocols(names: tuple[str, str], runs: tuple[Saved, Saved], datasets: list[str]) -> str:
    """Say how the images were predicted, and in what the two runs differ."""
    settings = [dict(run.protocol) for run in runs]
    for name in datasets:
        both = runs[0].measures[name].keys() & runs[1].measures[name].keys()
        for run, shown in zip(runs, settings, strict=True):
            shown |= {flag: run.measures[name][flag] for flag in both}
    compared = [replace(run, protocol=shown) for run, shown in zip(runs, settings, strict=True)]
    texts = differences(compared)
    how = "".join(f"<p>{escape(line)}</p>" for line in protocols(runs))
    how += f"<p>Differences are {escape(names[1])} minus {escape(names[0])}.</p>"
    warning = f"<p><b>Not comparable</b>: the runs differ in {escape('; '.join(texts))}</p>" if texts else ""
    return how + warning


def _table(names: tuple[str, str], runs: tuple[Saved, Saved], datasets: list[str], seen: set[str]) -> str:
    """Return the table: metrics of both runs and their differences, then the differences of IoU by class."""
    heads = "".join(
        f"<th><a href='#{quote(name)}'>{escape(name)}{'*' * (name in seen)}</a></th>" for name in datasets
    )
    rows = []
    for metric, title in METRICS.items():
        values = [[run.value(dataset, metric) for dataset in datasets] for run in runs]
        gains = [after - before for before, after in zip(*values, strict=True)]
        if metric != "mean_iu" and all(map(math.isnan, gains)):
            continue
        rows.append(f"<tr><th>{title} (%)</th>{'' if rows else heads}</tr>")
        for name, scores in zip(names, values, strict=True):
            cells = "".join(f"<td>{percent(score)}</td>" for score in scores)
            rows.append(f"<tr class=mean><td>{escape(name)}</td>{cells}</tr>")
        cells = "".join(_gain(gain, lower_is_better=metric == "ece") for gain in gains)
        rows.append(f"<tr class=mean><td>difference</td>{cells}</tr>")
    rows.append("<tr><th>IoU by class (%), difference</th></tr>")
    for i, name in enumerate(runs[0].classes):
        gains = [runs[1].ious[dataset][i] - runs[0].ious[dataset][i] for dataset in datasets]
        if not all(map(math.isnan, gains)):
            rows.append(f"<tr><td>{escape(name)}</td>{''.join(map(_gain, gains))}</tr>")
    return f"<div class=scroll><table class=domains>{''.join(rows)}</table></div>"


def _gain(value: float, lower_is_better: bool = False) -> str:
    """Return a table cell with a signed difference in percent points, green if it is better, else red."""
    if math.isnan(value):
        return "<td>-</td>"
    color = "46,125,80" if (value < 0 if lower_is_better else value > 0) else "205,32,44"
    shade = min(0.6, 2 * abs(value))
    return f"<td style='background:rgba({color},{shade:.2f})'>{100 * value:+.2f}</td>"


def _figure(
    names: tuple[str, str], runs: tuple[Saved, Saved], dataset: str, change: Change, folder: Path
) -> str:
    """Return an image's scores, and truth and both predictions side by side where the runs have them."""
    panels, image = "", change.image
    truths = [path for run in runs if (path := _picture("truth", run, dataset, image))]
    shown: list[tuple[str, str, Path | None]] = [("truth", "truth", path) for path in truths[:1]]
    both = zip(names, runs, strict=True)
    shown += [(str(i), name, _picture("compose", run, dataset, image)) for i, (name, run) in enumerate(both)]
    for part, name, source in shown:
        if source:
            target = below(folder, f"pictures/{part}/{dataset}/{image}", ".jpg")
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as picture:
                picture.thumbnail((WIDTH, WIDTH))
                picture.convert("RGB").save(target, quality=88)
            path = quote(target.relative_to(folder).as_posix())
            panels += f"<div>{escape(name)}<img src='{path}' alt='{escape(name)}'></div>"
    scores = f"{percent(change.before)} to {percent(change.after)} ({100 * change.gain:+.2f})"
    row = f"<div class=panels>{panels}</div>" if panels else ""
    return f"<figure><figcaption>{escape(image)}: mIoU {scores}</figcaption>{row}</figure>"


def _picture(kind: str, run: Saved, dataset: str, image: str) -> Path | None:
    """Return the large picture of an image, one of folder.PICTURES; None without --dump_images."""
    place = run.places[dataset]
    names = [place.dataset], []
    folders = [ResultFolder(place.folder, place.split, each).pictures(place.dataset) for each in names]
    files = [picture_file(folder, kind, image) for folder in folders]
    return next((file for file in files if file.is_file()), None)


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", nargs=2, metavar="NAME=RUN", help=RUN_HELP)
    add_domain_flags(parser)
    parser.add_argument("--count", type=int, default=10, help="images of each kind")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, index.html")
    args = parser.parse_args(argv)
    named = read_named(args.runs)
    if len(named) != 2:
        raise UserError("two runs are compared; give them different names")
    first, second = ((name, seeds[0]) for name, seeds in named.items())
    args.out.mkdir(parents=True, exist_ok=True)
    runs = first[1], second[1]
    seen = seen_columns(runs, args.seen, args.unseen)
    text = page((first[0], second[0]), runs, args.count, args.out, seen)
    write_text(args.out / "index.html", text)
    print(f"written to {args.out / 'index.html'}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
