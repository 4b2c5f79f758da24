"""Scores as rows, and rows as text, Markdown and CSV."""

import csv
import io
import math
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from utils import variants
from utils.classes import ClassTable
from utils.evaluation import robustness, sweep
from utils.evaluation.metrics import Summary, mean_over
from utils.evaluation.scores import METRICS, DatasetScores, Results

Rows = Sequence[Sequence[str]]  # the first row is the header
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # the beginning of what a spreadsheet computes, also after apostrophes


def percent(score: float) -> str:
    """Write a score in [0, 1] as percent with two decimals, nan as "-"."""
    return "-" if math.isnan(score) else f"{100 * score:.2f}"


def fraction(score: float) -> str:
    """Write a score in [0, 1] with six decimals, nan as an empty cell."""
    return "" if math.isnan(score) else f"{score:.6f}"


def seed_rows(
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    seen: Collection[str] = (),
    numbered: bool = False,
    title: str = "mIoU",
) -> Rows:
    """Lay out `runs[name][seed][dataset]`, scores in [0, 1] called `title`, as one row per name.

    The columns are the datasets and their mean. Several seeds of one name become their mean and standard
    deviation. Datasets in `seen` (training domains) are marked with * and excluded from the mean. A score
    that one seed lacks (missing or nan) is "-" for its name. With `numbered`, the number of seeds is beside
    each deviation.
    """
    titles, columns = seed_columns(runs, seen)
    rows = [[name, *(mean_and_deviation(c, numbered) for c in row)] for name, row in columns.items()]
    return [[f"{title} (%)", *titles], *rows]


def seed_columns(
    runs: Mapping[str, Sequence[Mapping[str, float]]], seen: Collection[str] = ()
) -> tuple[list[str], dict[str, list[list[float]]]]:
    """Return the titles of `seed_rows`, and by name the scores of the seeds in each column, nan for none."""
    datasets = list(dict.fromkeys(dataset for rows in runs.values() for row in rows for dataset in row))
    unseen = [dataset for dataset in datasets if dataset not in seen]
    titles = [f"{dataset}*" if dataset in seen else dataset for dataset in datasets]
    columns = {}
    for name, rows in runs.items():
        columns[name] = [[row.get(dataset, math.nan) for row in rows] for dataset in datasets]
        scores = [[row.get(dataset, math.nan) for dataset in unseen] for row in rows]
        columns[name].append([sum(row) / len(row) if row else math.nan for row in scores])
    return [*titles, "mean of unseen" if len(unseen) < len(datasets) else "mean"], columns


def mean_and_deviation(scores: Sequence[float], numbered: bool = False) -> str:
    """Write several scores in percent as mean and standard deviation (n - 1), and a single one as it is."""
    if len(scores) == 1 or any(map(math.isnan, scores)):
        return percent(sum(scores))
    number = f" (n={len(scores)})" if numbered else ""
    return f"{percent(statistics.mean(scores))} ± {percent(statistics.stdev(scores))}{number}"


def dataset_rows(results: Results, metric: str = "mean_iu") -> Rows:
    """Lay out one of the run's metrics in percent: one row, a column per labelled dataset and their mean.

    Variants of datasets are in tables of their own (`variant_tables`), unless there are no others.
    """
    values = {name: score for name, score in results.values(metric).items() if results.has_own_table(name)}
    return seed_rows({results.run: [values]}, results.training_domains, title=results.metrics[metric])


class VariantTables(NamedTuple):
    """Tables of corrupted images or of scales, one for each metric."""

    title: str
    tables: Sequence[Rows]
    note: str = ""


def variant_tables(results: Results) -> list[VariantTables]:
    """Return the tables of each dataset under corruptions, and those of the scales of all datasets."""
    found = []
    for name in results.robustness():
        runs = {title: results.robustness(metric)[name] for metric, title in results.metrics.items()}
        rows = [robustness.rows(*both, title) for title, both in runs.items()]
        found.append(VariantTables(f"{name} under corruptions", rows))
    if sweep.collect(results.values()):
        own = results.protocol.average()
        rows = [
            sweep.rows(results.values(metric), title, own, lowest=metric == "ece")
            for metric, title in results.metrics.items()
        ]
        found.append(VariantTables("Every scale on its own", rows, sweep.NOTE))
    return found


def class_columns(summary: Summary, boundary: Sequence[float] | None = None) -> dict[str, Sequence[float]]:
    """Return the scores of each class, with the boundary IoU if it was measured, by title."""
    columns: dict[str, Sequence[float]] = {"IoU": summary.iou}
    columns |= {"precision": summary.precision, "recall": summary.recall}
    return columns if boundary is None else columns | {"boundary IoU": boundary}


def class_rows(classes: ClassTable, summary: Summary, boundary: Sequence[float] | None = None) -> Rows:
    """Lay out `class_columns` in percent by class, then their means over the averaged classes."""
    columns = class_columns(summary, boundary)
    rows = [["class", *columns]]
    rows += [
        [name, *map(percent, scores)] for name, *scores in zip(classes.names, *columns.values(), strict=True)
    ]
    return [*rows, ["mean", *(percent(mean_over(column, summary.averaged)) for column in columns.values())]]


def measured(scores: DatasetScores) -> dict[str, float]:
    """Return what was measured besides the mean IoU by its title."""
    found = {title: scores.value(metric) for metric, title in METRICS.items() if metric != "mean_iu"}
    return {title: value for title, value in found.items() if not math.isnan(value)}


def subset_scores(scores: DatasetScores) -> dict[str, float]:
    """Return the means over subsets of the classes by their titles ("mean_iu_16": "mIoU of 16 classes")."""
    return {f"mIoU of {key.rpartition('_')[2]} classes": mean for key, mean in scores.subsets.items()}


def absent_classes(classes: ClassTable, summary: Summary) -> list[str]:
    """Return sentences on the classes that are excluded from the mean, if there are any."""
    absent = ", ".join(name for i, name in enumerate(classes.names) if i not in summary.present)
    foreign = ", ".join(classes.names[i] for i in summary.present if i not in summary.averaged)
    unpredicted, unlabelled = (
        ", ".join(classes.names[i] for i in summary.averaged if math.isnan(column[i]))
        for column in (summary.precision, summary.recall)
    )
    sentences = {
        "neither in the labels nor predicted, excluded from the mean": absent,
        "not a class of this dataset but predicted, excluded from the mean": foreign,
        "never predicted, so not in the mean of precision": unpredicted,
        "not in the labels, so not in the mean of recall": unlabelled,
    }
    return [f"{text}: {names}" for text, names in sentences.items() if names]


def summary_lines(classes: ClassTable, scores: DatasetScores, summary: Summary) -> str:
    """Write the scores over all pixels in percent, and the classes that are excluded from the mean."""
    fields = {
        "mIoU {}": summary.mean_iu,
        "acc {} (of all pixels)": summary.acc,
        "acc_cls {} (mean recall)": summary.acc_cls,
        "fwavacc {} (IoU weighted by the frequency of classes)": summary.fwavacc,
    }
    texts = [text.format(percent(score)) for text, score in fields.items()]
    lines = [", ".join([*texts, f"mean over {len(summary.averaged)} classes"])]
    others = subset_scores(scores) | measured(scores)
    lines += [f"{title} {percent(score)}" for title, score in others.items()]
    return "\n".join(lines + absent_classes(classes, summary))


def exact_class_rows(results: Results) -> Rows:
    """Lay out class scores of all datasets, and their means, as fractions.

    "classes" is the number of classes in a mean, "protocol" how the scores were computed.
    """
    more = [metric for metric in results.metrics if metric != "mean_iu"]
    rows = [["dataset", "class", "iou", "precision", "recall", "classes", "protocol", *more]]
    for dataset, (scores, summary) in results.labelled.items():
        how = results.protocol_of(dataset).title()
        by_class = {"boundary_iou": scores.boundary}
        columns = [
            [*column, mean_over(column, summary.averaged)]
            for column in (summary.iou, summary.precision, summary.recall)
        ]
        others = [
            [*(by_class.get(metric) or [math.nan] * len(results.classes)), scores.value(metric)]
            for metric in more
        ]
        for name, *values in zip([*results.classes.names, "mean"], *columns, *others, strict=True):
            number = str(len(summary.averaged)) if name == "mean" else ""
            cells = [*map(fraction, values)]
            rows.append([variants.title(dataset), name, *cells[:3], number, how, *cells[3:]])
        for subset, mean in scores.subsets.items():
            cells = [fraction(mean), "", "", subset.rpartition("_")[2], how, *[""] * len(more)]
            rows.append([variants.title(dataset), subset, *cells])
    return rows


def exact_image_rows(results: Results) -> Rows:
    """Lay out the mean IU of each labelled image as a fraction, the best image of a dataset first."""
    rows = [["dataset", "image", "mean_iu", "protocol"]]
    for dataset, (scores, _) in results.labelled.items():
        how = results.protocol_of(dataset).title()
        ranked = sorted(scores.images.items(), key=lambda item: (math.isnan(item[1]), -item[1]))
        rows += [[variants.title(dataset), image, fraction(score), how] for image, score in ranked]
    return rows


def text_table(rows: Rows) -> str:
    """Align the columns with blanks: the first column to the left, the others to the right."""
    return "\n".join("  ".join(cells).rstrip() for cells in _padded(rows))


def markdown_table(rows: Rows) -> str:
    """Write a Markdown table that is also aligned as text."""
    header, *body = _padded(rows)
    rule = ["-" * len(header[0]), *("-" * max(1, len(cell) - 1) + ":" for cell in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *body])


def csv_table(rows: Rows) -> str:
    """Write comma-separated values; cells that a spreadsheet would compute are preceded by an apostrophe."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def csv_cell(text: str) -> str:
    """Return a cell that spreadsheets show as text, such as the name of an image =1+1; see `plain_cell`."""
    return f"'{text}" if FORMULA.match(text) else text


def plain_cell(cell: str) -> str:
    """Return the text that `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell[1:]) else cell


def _padded(rows: Rows) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ["<", *[">"] * (len(widths) - 1)]
    return [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True)]
        for row in rows
    ]
