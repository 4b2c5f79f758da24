"""Make the study's page and pictures from the results that are there. It names those that are not."""

import argparse
import math
import os
import shlex
import statistics
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from scripts.figure.canvas import COLORS, Canvas
from scripts.figure.latex import SIGNIFICANT
from scripts.study import figures
from scripts.study.plan import ORDER, SIZES, TASKS, needs_camvid
from scripts.study.probe import POSITIONS, STAGES
from scripts.study.results import Comparison, Result, Spread, bases_of, compare, read_results, spread
from utils.evaluation.html_report import document
from utils.evaluation.tables import Rows, markdown_table
from utils.files import write_text

NOTE = (
    "Mean IoU in percent, mean over seeds; ± is the standard deviation (n - 1) over seeds. * trained on, "
    "in no mean. to X: the mean difference to X's run of the same seed on what is unseen. "
    f"† p < {SIGNIFICANT} in a paired t-test over seeds, ‡ in Welch's t-test, too; not corrected for the "
    "number of tests."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="folder of results")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, index.html")
    parser.add_argument("--markdown", action="store_true", help="also print the tables for a README")


def run(args: argparse.Namespace) -> None:
    results = read_results(args.results)
    found = [comparison for task in ORDER if (comparison := compare(results, task)).runs]
    command = shlex.join(["python", "-m", "scripts.study", "page", str(args.results), "--out", str(args.out)])
    write_text(args.out / "index.html", page(found, args.out, command))
    print(f"written to {args.out / 'index.html'}")
    if args.markdown:
        print(f"\n{NOTE}")
        for comparison in found:
            print(f"\n{TASKS[comparison.task].title}\n\n{markdown_table(table(comparison))}")


def table(comparison: Comparison) -> Rows:
    """Lay out mean IoU in percent: a row per method; what is unseen, differences, means, domains."""
    named = dict.fromkeys(base for method in comparison.runs for base in bases_of(method))
    bases = [base for base in named if base in comparison.runs]
    sums, seen = comparison.unseen, comparison.seen
    domains = [name for name in comparison.columns if name not in (*sums, *seen)]
    heads = [*(f"{name}*" for name in seen), sums[0], *(f"to {base}" for base in bases), *sums[1:], *domains]
    rows = [["mIoU (%)", "seeds", *heads]]
    for method, seeds in comparison.runs.items():
        values = {name: comparison.spread(method, name) for name in comparison.columns}
        first, *others = (shown(values[name]) for name in sums)
        trained, new = (
            [shown(values[name]._replace(std=math.nan)) for name in part] for part in (seen, domains)
        )
        own = bases_of(method)
        gains = [gained(comparison, method, base) if base in own else "" for base in bases]
        rows.append([method, str(len(seeds)), *trained, first, *gains, *others, *new])
    return rows


def shown(value: Spread, sign: str = "") -> str:
    """Return "mean ± deviation" in percent; only the mean of one number, "-" of none."""
    if math.isnan(value.mean):
        return "-"
    mean = f"{100 * value.mean:{sign}.1f}"
    return mean if math.isnan(value.std) else f"{mean} ± {100 * value.std:.1f}"


def gained(comparison: Comparison, method: str, base: str) -> str:
    """Return the difference of two methods in percent, with the mark of its significance."""
    return f"{shown(comparison.gain(method, base), '+')} {comparison.mark(method, base)}".strip()


def page(found: Sequence[Comparison], folder: Path, command: str) -> str:
    """Return the page to write into `folder`, and write its pictures there; `command` makes both."""
    runs = [result for one in found for seeds in one.runs.values() for result in seeds.values()]
    size = SIZES[runs[0]["size"]]
    call = f"bash scripts/study.sh {'--quick' if size.name == 'quick' else 'logs/study'}"
    sections = [section(comparison, folder, call) for comparison in found]
    absent = [TASKS[task].title for task in ORDER if task not in [one.task for one in found]]
    if absent:
        sections.append(f"<section><h2>Not run</h2><p>{escape('; '.join(absent))}</p></section>")
    computed = sorted(
        {f"torch {run['versions']['torch']} on {run['versions']['gpu'] or 'a CPU'}" for run in runs}
    )
    how = (
        f"MobileNetV2 where no other network is named, images of {size.height}x{size.width} px, "
        f"crops of {size.crop} px, batches of {size.batch}, {size.iterations} iterations; "
        f"{len(runs)} runs; {', '.join(computed)}"
    )
    top = (
        f"<p>{escape(how)}</p><p>Tables and pictures: <code>{escape(command)}</code></p><p>{escape(NOTE)}</p>"
    )
    return document("The study", f"<h1>The study</h1>{top}{''.join(sections)}")


def section(comparison: Comparison, folder: Path, call: str) -> str:
    """Return the section of a task: table, pictures, mechanism, commands; `call` of study.sh runs it."""
    task = comparison.task
    missing = f"<p><b>Not run:</b> {escape(', '.join(comparison.missing))}</p>" if comparison.missing else ""
    command = f"{call} --tasks {task}{' --camvid DIR' * needs_camvid(task)}"
    body = f"<h2>{escape(TASKS[task].title)}</h2>{html_table(table(comparison))}{missing}"
    body += f"<p>Runs: <code>{command}</code></p>"
    domains = sum(len(part.names) for part in TASKS[task].scored)
    if domains > 2 and len(comparison.runs) <= len(COLORS):  # else the table says as much
        body += figure(folder, f"{task}-domains.svg", "Mean IoU by domain", figures.domains(comparison))
    if task in ("gtav", "camvid", "dusk", "gtav_synthia", "scratch"):
        body += mechanism(comparison, folder)
    elif task == "search":
        body += covariances(comparison)
    if picture := figures.strip(comparison):
        text = "Unseen images and the predictions of the first seed's networks"
        body += figure(folder, f"{task}-strip.png", text, picture)
    return f"<section>{body}{commands(comparison)}</section>"


def mechanism(comparison: Comparison, folder: Path) -> str:
    """Return what was measured inside the networks of a task."""
    task, ticks = comparison.task, [*STAGES, "output"]
    twins = {
        method: [spread(run["mechanism"]["distance"][name] for run in seeds.values()) for name in ticks]
        for method, seeds in comparison.runs.items()
    }
    text = (
        "Distance of photometric twins (an image, and the same image in other colours and blurred) relative "
        "to the distance of different images, after each layer"
    )
    body = "<h3>Mechanism</h3>"
    body += figure(folder, f"{task}-twins.svg", text, figures.lines(twins, ticks, "distance of twins"))
    body += covariances(comparison) + explained(comparison, folder)
    return body + curves(comparison, folder) + suppression(comparison, folder)


def covariances(comparison: Comparison) -> str:
    """Return the table of covariances and what its columns are."""
    return (
        "<p>Covariances of standardized maps at the positions that are whitened, in hundredths, means over "
        "pairs of channels and seeds. size: mean |covariance|; change: root mean square change of twins; "
        "sensitive: share of the pairs whose change is not in the lowest of 3 clusters, and their size; "
        "suppressed: share of the pairs in ISW's mask, their size, and the size of the rest</p>"
        f"{html_table(covariance_rows(comparison))}"
    )


def measured(run: Result) -> dict[str, float]:
    """Return what was measured in the network of one run, by name."""
    found = run["mechanism"]
    values = {f"distance of twins, {name}": found["distance"][name] for name in (*STAGES, "output")}
    for key in ("size", "change"):
        for number, name in enumerate(POSITIONS, start=2):
            values[f"{key} of covariances, position {number}"] = found["covariance"][name][key]
    return values


def explained(comparison: Comparison, folder: Path) -> str:
    """Return how what was measured goes along with the mean IoU on what is unseen, run by run."""
    runs = [(method, seed, run) for method, seeds in comparison.runs.items() for seed, run in seeds.items()]
    if len(runs) < 8:
        return ""
    unseen = [100 * comparison.score(method, seed, "unseen") for method, seed, _ in runs]
    every = [measured(run) for *_, run in runs]
    found = {name: [values[name] for values in every] for name in every[0]}
    methods = [method for method, *_ in runs]
    rows = [["measured", "correlation", "within methods"]]
    for name, values in found.items():
        inside = correlation(centred(values, methods), centred(unseen, methods))
        rows.append([name, correlation(values, unseen), inside])
    body = (
        f"<p>Correlation with the mean IoU on what is unseen, over {len(runs)} runs of all methods; within "
        f"methods: of the differences to the mean of a run's method</p>{html_table(rows)}"
    )
    for name, file in (
        (f"distance of twins, {STAGES[3]}", "distance"),
        ("size of covariances, position 4", "size"),
    ):
        points: dict[str, list[tuple[float, float]]] = {}
        for (method, *_), x, y in zip(runs, found[name], unseen, strict=True):
            points.setdefault(method, []).append((x, y))
        drawn = figures.dots(points, name, "mean IoU on what is unseen (%)")
        body += figure(
            folder, f"{comparison.task}-{file}.svg", f"Mean IoU on what is unseen and {name}", drawn
        )
    return body


def centred(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Return what is left of values after the mean of each one's group is taken off."""
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        members.setdefault(group, []).append(value)
    return [value - statistics.mean(members[group]) for value, group in zip(values, groups, strict=True)]


def correlation(first: Sequence[float], second: Sequence[float]) -> str:
    """Return the correlation to show; "-" if one side does not vary."""
    if min(max(side) - min(side) for side in (first, second)) == 0:
        return "-"
    return f"{statistics.correlation(first, second):+.2f}"


def covariance_rows(comparison: Comparison) -> Rows:
    """Lay out the covariances by position and method, in hundredths."""
    keys = ("size", "change", "sensitive", "sensitive_size", "masked", "masked_size", "rest_size")
    heads = ("size", "change", "sensitive", "their size", "suppressed", "their size", "size of the rest")
    rows = [["position", "method", *heads]]
    for number, name in enumerate(POSITIONS, start=2):
        for method, seeds in comparison.runs.items():
            found = [run["mechanism"]["covariance"][name] for run in seeds.values()]
            values = [[one[key] for one in found if one.get(key) is not None] for key in keys]
            cells = [f"{100 * statistics.mean(column):.2f}" if column else "" for column in values]
            rows.append([str(number), method, *cells])
    return rows


def curves(comparison: Comparison, folder: Path) -> str:
    """Return the curves of the first seed: the training loss, and what was validated while it trained."""
    first = {method: seeds[0]["curve"] for method, seeds in comparison.runs.items() if 0 in seeds}
    body = ""
    for name in dict.fromkeys(key for curve in first.values() for key in curve):
        points = {method: curve[name] for method, curve in first.items() if len(curve.get(name, ())) > 1}
        ticks = sorted({iteration for row in points.values() for iteration, _ in row})
        if points and len(ticks) <= 2 * max(map(len, points.values())):
            series = {
                method: [Spread(dict(map(tuple, row)).get(tick, math.nan), math.nan, 1) for tick in ticks]
                for method, row in points.items()
            }
            shown_ticks = [str(t) if i % math.ceil(len(ticks) / 8) == 0 else "" for i, t in enumerate(ticks)]
            title = "training loss (with whitening)" if name == "loss" else f"mean IoU on {name}"
            drawn = figures.lines(series, shown_ticks, f"{title} over iterations, first seed")
            body += figure(folder, f"{comparison.task}-{name}.svg", f"{title}, first seed", drawn)
    return body


def suppression(comparison: Comparison, folder: Path) -> str:
    """Return the sizes of the pairs that ISW suppresses, in both networks, and a picture of them.

    The baseline's pairs are those of the same channels and seed: both networks start from the same weights.
    """
    plain, chosen = comparison.runs.get("baseline", {}), comparison.runs.get("ISW", {})
    kept = [seed for seed in chosen if seed in plain and all(map(keeps, (plain[seed], chosen[seed])))]
    if not kept:
        return ""
    rows = [["position", "network", "pairs suppressed", "the rest"]]
    for number, name in enumerate(POSITIONS, start=2):
        for method, runs in (("baseline", plain), ("ISW", chosen)):
            pairs: list[tuple[float, float]] = []
            for seed in kept:
                mask = figures.suppressed(chosen[seed]["mechanism"]["covariance"][name])
                sizes = figures.sizes(runs[seed]["mechanism"]["covariance"][name])
                if mask.any() and not mask.all():
                    pairs.append((sizes[mask].mean(), sizes[~mask].mean()))
            cells = [f"{100 * statistics.mean(column):.2f}" for column in zip(*pairs, strict=True)]
            rows.append([str(number), method, *(cells or ["every pair", "no pair"])])
    first = kept[0]
    drawn = figures.covariances(plain[first]["mechanism"], chosen[first]["mechanism"])
    text = (
        f"Mean |covariance| of pairs of channels (white 0, black 0.5 and more) and ISW's mask, seed {first}"
    )
    note = "Size of the pairs that ISW suppresses and of the rest, in hundredths, in both networks:"
    return f"<p>{note}</p>{html_table(rows)}" + figure(
        folder, f"{comparison.task}-covariances.png", text, drawn
    )


def keeps(run: Result) -> bool:
    """Whether a result holds each pair's covariance."""
    return all("sizes" in run["mechanism"]["covariance"][name] for name in POSITIONS)


def figure(folder: Path, name: str, text: str, drawn: Canvas | Image.Image) -> str:
    """Write a picture into `folder` and return it as HTML."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(drawn, Canvas):
        drawn.write(folder / name)
    else:
        drawn.save(folder / name, optimize=True)
    caption = f"{escape(text)} ({name})"
    shown = f"<a href='{name}'><img src='{name}' alt='{escape(text)}' style='max-height:none'></a>"
    return f"<figure><figcaption>{caption}</figcaption>{shown}</figure>"


def html_table(rows: Rows) -> str:
    head, *body = rows
    cells: Callable[[str, Sequence[str]], str] = lambda tag, row: "".join(  # noqa: E731
        f"<{tag}>{escape(cell)}</{tag}>" for cell in row
    )
    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in body)
    return f"<div class=scroll><table class=domains><tr>{cells('th', head)}</tr>{lines}</table></div>"


def commands(comparison: Comparison) -> str:
    """Return how each method's first run was trained, and how the first of them was scored, folded away."""
    lines, trained = "", ""
    for method, seeds in comparison.runs.items():
        run = seeds[min(seeds)]
        seconds = ", ".join(f"{name} {value:.0f} s" for name, value in run["seconds"].items())
        texts = (
            [f"... {own_words(run['commands']['train'], trained)} ..."] if lines else run["commands"].values()
        )
        trained = trained or run["commands"]["train"]
        shown = "".join(f"<p><code>{escape(text)}</code></p>" for text in texts)
        lines += f"<h3>{escape(method)} seed {min(seeds)}: {seconds}</h3>{shown}"
    summary = "The commands of the first method, and what is different in those that train the others"
    return f"<details><summary>{summary}</summary>{lines}</details>"


def own_words(command: str, other: str) -> str:
    """Return the words of a training's command between those that `other` starts and ends with, too.

    The name of the run, which is that of its folders, counts as the same.
    """
    words, known = (
        [word.replace(each[each.index("--exp") + 1], "RUN") for word in each]
        for each in map(shlex.split, (command, other))
    )
    start = len(os.path.commonprefix([words, known]))
    end = len(os.path.commonprefix([words[start:][::-1], known[start:][::-1]]))
    return shlex.join(words[start : len(words) - end])
