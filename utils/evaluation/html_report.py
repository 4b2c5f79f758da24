"""A static page of a run's results. It runs no script and loads only pictures beside it."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from utils.classes import ClassTable
from utils.evaluation.calibration import reliability
from utils.evaluation.folder import ResultFolder, picture_file
from utils.evaluation.metrics import Summary
from utils.evaluation.reliability_diagram import LEGEND, diagram
from utils.evaluation.reliability_diagram import STYLE as DIAGRAM_STYLE
from utils.evaluation.scores import DatasetScores, Results
from utils.evaluation.tables import (
    VariantTables,
    class_columns,
    dataset_rows,
    measured,
    percent,
    subset_scores,
    variant_tables,
)
from utils.visualize import RIGHT, UNLABELLED, WRONG

LARGE = ("compose", "rgb", "truth", "diff")  # the pictures of --dump_images that the page links to

STYLE = """
:root { --text: #1f2328; --quiet: #57606a; --back: #f6f7f9; --card: #fff; --line: #d8dee4; --track: #eaeef2 }
:root { --link: #0b5cad; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --quiet: #9aa4ae; --back: #0d1117; --card: #161b22; --line: #30363d }
  :root { --track: #2b323a; --link: #6cb6ff }
}
* { print-color-adjust: exact; -webkit-print-color-adjust: exact }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px }
section { margin-top: 20px; padding: 20px 24px }
a { color: var(--link); text-decoration: none }
h1 { font-size: 26px; margin: 0 0 2px; overflow-wrap: anywhere }
h2 { font-size: 20px; margin: 0 0 2px }
h3 { font-size: 14px; margin: 26px 0 8px; color: var(--quiet); break-after: avoid }
p { margin: 4px 0; color: var(--quiet) }
b.score { font-size: 30px; color: var(--text); margin-right: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
tr { break-inside: avoid }
td, th { padding: 3px 12px 3px 0; text-align: right; white-space: nowrap; font-weight: normal }
th { color: var(--quiet) }
td:first-child, th:first-child { text-align: left }
.domains td, .domains th { padding: 3px 10px; border-bottom: 1px solid var(--line) }
.domains td:first-child, .domains th:first-child { padding-left: 0 }
.domains .mean td { font-size: 19px; padding: 7px 10px }
.domains .mean td:first-child { padding-left: 0 }
.scroll + .scroll { margin-top: 18px }
summary { color: var(--quiet); cursor: pointer; margin-top: 8px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0 }
dt { color: var(--quiet) }
dd { margin: 0; overflow-wrap: anywhere }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px }
.swatch { box-shadow: 0 0 0 1px var(--line) }
.bar { width: 100%; padding-right: 16px }
.bar div { background: var(--track); border-radius: 4px; height: 13px }
.confusion { font-size: 11px }
.confusion td { padding: 0; width: 40px; height: 22px; text-align: center }
.confusion td:first-child { text-align: center }
.confusion th { padding: 0 8px 0 0; text-align: right }
.confusion thead th { height: 92px; vertical-align: bottom; padding: 0 0 5px; text-align: center }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg) }
figure { margin: 0 0 14px; break-inside: avoid }
figure div { width: fit-content; max-width: 100% }
figure img { max-width: 100%; max-height: 420px; display: block; border-radius: 6px }
figcaption { margin-bottom: 4px; overflow-wrap: anywhere }
figcaption b { text-transform: capitalize }
figcaption a { margin-left: 8px }
figure .panels { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; width: auto }
figure > .panels { gap: 6px }
.panels, .legend { color: var(--quiet); font-size: 13px }
.legend > span { margin-right: 16px; white-space: nowrap }
.scroll { overflow-x: auto }
@media (max-width: 600px) {
  main { padding: 14px 10px 40px }
  section { padding: 14px 12px; margin-top: 12px }
  h1 { font-size: 20px }
  dl { display: block }
  figure > div { overflow-x: auto }
  figure > div > img, figure > div > .panels { width: 720px; max-width: none }
  figure > .panels { grid-auto-columns: 260px }
  dd { margin-bottom: 6px }
  .domains td:first-child, .domains th:first-child { position: sticky; left: 0; background: var(--card) }
}
@media print {
  body { background: none; font-size: 12px }
  main { max-width: none; padding: 0 }
  section { border: 0; padding: 0 }
  .scroll { overflow: visible }
  .confusion td { width: 26px }
}
"""


def page(results: Results, facts: Mapping[str, str], folder: Path) -> str:
    """Return the page to write into `folder`, which holds the datasets' pictures.

    `facts` say how the scores were computed.
    """
    evaluated = [*results.datasets, *results.unfinished]
    pictures = ResultFolder(folder, results.protocol.split, evaluated)
    sections = "".join(
        _section(name, scores, results, pictures.pictures(name), folder)
        for name, scores in results.datasets.items()
        if results.has_own_table(name)
    )
    tables = "".join(map(_variants, variant_tables(results)))
    terms = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    body = f"{_overview(results)}{tables}{sections}<section><h2>How</h2><dl>{terms}</dl></section>"
    return document(results.run, body)


def document(title: str, body: str) -> str:
    """Return a whole page of `body`, HTML, in this module's style."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    view = '<meta name=viewport content="width=device-width, initial-scale=1">'
    return f"{head}{view}<style>{STYLE}{DIAGRAM_STYLE}</style><main>{body}</main></html>\n"


def _overview(results: Results) -> str:
    """Return the title, the protocol, and the table of classes by datasets."""
    classes = results.classes
    title = results.how
    header, *rows = dataset_rows(results)
    lines = [["mean", *row[1:]] for row in rows]
    for metric, name in results.metrics.items():
        lines += [[name, *row[1:]] for row in dataset_rows(results, metric)[1:] if metric != "mean_iu"]
    shown = {name: summary for name, (_, summary) in results.labelled.items() if results.has_own_table(name)}
    names = [*shown]
    links = [
        f"<a href='#{quote(name)}'>{escape(cell)}</a>" for name, cell in zip(names, header[1:], strict=False)
    ]
    heads = [escape(header[0]), *links, *map(escape, header[len(names) + 1 :])]
    cells = "".join(f"<th>{cell}</th>" for cell in heads)
    means = "".join(
        f"<tr class=mean>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines
    )
    present, absent = "", []
    for i, (name, color) in enumerate(zip(classes.names, classes.colors, strict=True)):
        ious = [summary.iou[i] for summary in shown.values()]
        if all(map(math.isnan, ious)):
            absent.append(name)
        else:
            present += f"<tr><td>{_swatch(color)}{escape(name)}</td>{''.join(map(_iou_cell, ious))}</tr>"
    stars = any(cell.endswith("*") for cell in header)
    starred = "<p>* trained on or adapted to, excluded from the mean</p>" if stars else ""
    table = f"<div class=scroll><table class=domains><tr>{cells}</tr>{means}{present}</table></div>"
    head = f"<h1>{escape(results.run)}</h1><p>{escape(title)}</p>"
    return f"{head}<section>{table}{starred}{_absent(absent)}</section>"


def _variants(tables: VariantTables) -> str:
    """Return the section of a dataset under corruptions, or of scales."""
    shown = ""
    for header, *lines in tables.tables:
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        shown += f"<div class=scroll><table class=domains><tr>{cells}</tr>{body}</table></div>"
    note = f"<p>{escape(tables.note)}</p>" if tables.note else ""
    return f"<section><h2>{escape(tables.title)}</h2>{shown}{note}</section>"


def _iou_cell(iou: float) -> str:
    """Return a table cell whose green grows with the IoU."""
    shade = 0 if math.isnan(iou) else 0.45 * iou
    return f"<td style='background:rgba(46,125,80,{shade:.2f})'>{percent(iou)}</td>"


def _swatch(color: Sequence[int]) -> str:
    return f"<span class=swatch style='background:rgb({','.join(map(str, color))})'></span>"


def _section(name: str, scores: DatasetScores, results: Results, large: Path, folder: Path) -> str:
    """Return the section of one dataset, whose large pictures are in the folder `large`, if there are any."""
    summary, title = scores.summary, f"<h2 id='{quote(name)}'>{escape(name)}</h2>"
    pictures = "".join(_figure(scores, picture, large, folder) for picture in scores.pictures)
    count = f"{len(scores.images)} image{'s' * (len(scores.images) > 1)}"
    if summary is None:
        return f"<section>{title}<p>{count} without labels, so no scores</p>{pictures}</section>"
    others = {"pixel accuracy": summary.acc, "class accuracy": summary.acc_cls}
    others |= {"frequency-weighted IoU": summary.fwavacc} | subset_scores(scores) | measured(scores)
    text = " · ".join(f"{key} {percent(score)}" for key, score in others.items())
    return (
        f"<section>{title}<p><b class=score>{percent(summary.mean_iu)}</b>% mIoU over {count}, "
        f"mean over {len(summary.averaged)} classes</p>"
        f"<p>{text}</p><h3>Classes</h3>{_bars(summary, results.classes, scores.boundary)}"
        f"{_calibration(scores)}"
        f"<h3>Best, median and worst images</h3>{_legend()}{pictures}"
        f"<h3>Confusion: the percentage of each class's pixels (row) predicted as each class (column)</h3>"
        f"{_confusion(scores, results.classes)}</section>"
    )


def _legend() -> str:
    """Say what the greys and reds of the pictures mean."""
    meanings = {"right": RIGHT, "wrong": WRONG, "not labelled, not scored": UNLABELLED}
    words = "".join(f"<span>{_swatch(color)}{text}</span>" for text, color in meanings.items())
    return f"<p class=legend>Errors: {words} Truth: <span>{_swatch((0, 0, 0))}not labelled</span></p>"


def _calibration(scores: DatasetScores) -> str:
    """Return the reliability diagram, if the calibration was measured."""
    if scores.calibration is None:
        return ""
    words = "".join(f"<span>{_swatch(color)}{text}</span>" for text, color in LEGEND.items())
    head = f"<h3>Calibration: expected error {percent(scores.value('ece'))}%</h3>"
    return f"{head}<p class=legend>{words}</p>{diagram(reliability(scores.calibration))}"


def _bars(summary: Summary, classes: ClassTable, boundary: Sequence[float] | None) -> str:
    """Return a bar per class; classes that are neither in the truth nor predicted are folded away."""
    rows, absent = [], []
    columns = class_columns(summary, boundary)
    for name, color, *scores in zip(classes.names, classes.colors, *columns.values(), strict=True):
        if math.isnan(scores[0]):
            absent.append(name)
            continue
        paint = f"background:rgb({','.join(map(str, color))})"
        bar = f"<div><div style='width:{100 * scores[0]:.2f}%;{paint};border-radius:4px'></div></div>"
        numbers = "".join(f"<td>{percent(score)}</td>" for score in scores)
        rows.append(f"<tr><td>{_swatch(color)}{escape(name)}</td><td class=bar>{bar}</td>{numbers}</tr>")
    heads = "".join(f"<th>{title}</th>" for title in columns)
    head = f"<tr><th>class</th><th></th>{heads}</tr>"
    return f"<div class=scroll><table>{head}{''.join(rows)}</table></div>{_absent(absent)}"


def _absent(names: Sequence[str]) -> str:
    """Return a line that opens to the names of classes that are not in the mean, if there are any."""
    if not names:
        return ""
    title = f"{len(names)} more classes, neither in the labels nor predicted, are not in the mean"
    return f"<details><summary>{title}</summary><p>{escape(', '.join(names))}</p></details>"


def _confusion(scores: DatasetScores, classes: ClassTable) -> str:
    """Draw rows normalized to the class's labelled pixels; the diagonal is the recall.

    Classes that are neither in the truth nor predicted are left out.
    """
    table = scores.counts.tolist()
    kept = [i for i, row in enumerate(table) if sum(row) or any(other[i] for other in table)]
    head = "".join(f"<th><span>{escape(classes.names[i])}</span></th>" for i in kept)
    rows = []
    for i in kept:
        total, truth = sum(table[i]), classes.names[i]
        cells = []
        for j in kept:
            count, pred = table[i][j], classes.names[j]
            ratio = count / total if total else 0.0
            title = f"{escape(truth)} predicted as {escape(pred)}: {count} px"
            color = (46, 125, 80) if i == j else (205, 32, 44)
            light = ";color:#fff" if ratio > 0.6 else ""
            paint = f"background:rgba({','.join(map(str, color))},{ratio**0.6:.2f}){light}"
            shown = f"{100 * ratio:.0f}" if ratio >= 0.005 else ""
            cells.append(f"<td style='{paint}' title='{title}'>{shown}</td>")
        rows.append(f"<tr><th>{escape(truth)}</th>{''.join(cells)}</tr>")
    return (
        f"<div class=scroll><table class=confusion><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _figure(scores: DatasetScores, picture: tuple[str, str, Path], large: Path, folder: Path) -> str:
    """Draw a small picture with its caption, the names of its panels and links to the large pictures."""
    kind, image, small = picture
    score = scores.images[image]
    scored = "" if math.isnan(score) else f", mIoU {percent(score)}"
    labelled = ["image", "truth", "prediction", "errors"]
    panels = ["image", "prediction"] if scores.summary is None else labelled
    words = "".join(f"<span>{panel}</span>" for panel in panels)
    full = {kind: picture_file(large, kind, image) for kind in LARGE}
    links = "".join(
        f"<a href='{quote(path.relative_to(folder).as_posix())}'>{kind}</a>"
        for kind, path in full.items()
        if path.is_file()
    )
    source = quote(small.relative_to(folder).as_posix())
    return (
        f"<figure><figcaption><b>{escape(kind)}</b>: {escape(image)}{scored}{links}</figcaption>"
        f"<div><div class=panels>{words}</div>"
        f"<img src='{source}' alt='{escape(kind)} image'></div></figure>"
    )
