"""A static page of a run's results. It runs no script and loads only pictures beside it."""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

from utils.classes import ClassTable
from utils.evaluation.metrics import Summary
from utils.evaluation.scores import DatasetScores, Results
from utils.evaluation.tables import absent_classes, dataset_rows, percent, subset_scores

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; background: #f6f7f9; margin: 0 }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px }
section { background: #fff; border: 1px solid #d8dee4; border-radius: 10px }
section { margin-top: 20px; padding: 20px 24px }
h1 { font-size: 26px; margin: 0 0 2px; overflow-wrap: anywhere }
h2 { font-size: 20px; margin: 0 0 2px }
h3 { font-size: 14px; margin: 26px 0 8px; color: #57606a }
p { margin: 4px 0; color: #57606a }
b.score { font-size: 30px; color: #1f2328; margin-right: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: 3px 12px 3px 0; text-align: right; white-space: nowrap; font-weight: normal }
th { color: #57606a }
td:first-child, th:first-child { text-align: left }
.domains td, .domains th { padding: 6px 26px 6px 0; border-bottom: 1px solid #eaeef2 }
.domains td { font-size: 18px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 18px; margin: 0 }
dt { color: #57606a }
dd { margin: 0; overflow-wrap: anywhere }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 8px }
.bar { width: 100%; padding-right: 16px }
.bar div { background: #eaeef2; border-radius: 4px; height: 13px }
.absent td { color: #9aa4ae }
.confusion { font-size: 11px }
.confusion td { padding: 0; width: 40px; height: 22px; text-align: center }
.confusion td:first-child { text-align: center }
.confusion th { padding: 0 8px 0 0; text-align: right }
.confusion thead th { height: 92px; vertical-align: bottom; padding: 0 0 5px; text-align: center }
.confusion thead span { writing-mode: vertical-rl; transform: rotate(180deg) }
figure { margin: 0 0 14px }
figure div { width: fit-content; max-width: 100% }
figure img { max-width: 100%; max-height: 420px; display: block; border-radius: 6px }
figcaption { margin-bottom: 4px }
figcaption b { text-transform: capitalize }
figure .panels { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; width: auto }
.panels { color: #57606a; font-size: 13px }
.scroll { overflow-x: auto }
"""


def page(results: Results, facts: Mapping[str, str], folder: Path) -> str:
    """Return the page to write into `folder`, which holds the datasets' pictures.

    `facts` say how the scores were computed.
    """
    header, *rows = dataset_rows(results)
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    stars = any(cell.endswith("*") for cell in header)
    starred = "<p>* trained on or adapted to, excluded from the mean</p>" if stars else ""
    terms = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    overview = (
        f"<h1>{escape(results.run)}</h1><section><div class=scroll><table class=domains><tr>{cells}</tr>"
        f"{body}</table></div>{starred}<h3>How</h3><dl>{terms}</dl></section>"
    )
    sections = "".join(
        _section(name, scores, results.classes, folder) for name, scores in results.datasets.items()
    )
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(results.run)}</title>"
    view = '<meta name=viewport content="width=device-width, initial-scale=1">'
    return f"{head}{view}<style>{STYLE}</style><main>{overview}{sections}</main></html>\n"


def _section(name: str, scores: DatasetScores, classes: ClassTable, folder: Path) -> str:
    summary, title = scores.summary, f"<h2>{escape(name)}</h2>"
    pictures = "".join(
        _figure(scores, kind, image, path.relative_to(folder).as_posix())
        for kind, image, path in scores.pictures
    )
    count = f"{len(scores.images)} image{'s' * (len(scores.images) > 1)}"
    if summary is None:
        return f"<section>{title}<p>{count} without labels, so no scores</p>{pictures}</section>"
    others = {"pixel accuracy": summary.acc, "class accuracy": summary.acc_cls}
    others |= {"frequency-weighted IoU": summary.fwavacc} | subset_scores(scores)
    text = " · ".join(f"{key} {percent(score)}" for key, score in others.items())
    text = "<br>".join([text, *absent_classes(classes, summary)])
    return (
        f"<section>{title}<p><b class=score>{percent(summary.mean_iu)}</b>% mIoU over {count}</p>"
        f"<p>{text}</p><h3>Classes</h3>{_bars(summary, classes)}"
        f"<h3>Best, median and worst image</h3>{pictures}"
        f"<h3>Confusion: the percentage of each class's pixels (row) predicted as each class (column)</h3>"
        f"{_confusion(scores, classes)}</section>"
    )


def _bars(summary: Summary, classes: ClassTable) -> str:
    rows = []
    columns = summary.iou, summary.precision, summary.recall
    for name, color, *scores in zip(classes.names, classes.colors, *columns, strict=True):
        iou = 0 if math.isnan(scores[0]) else scores[0]
        paint = f"background:rgb({','.join(map(str, color))})"
        bar = f"<div><div style='width:{100 * iou:.2f}%;{paint};border-radius:4px'></div></div>"
        absent = " class=absent" if math.isnan(scores[0]) else ""
        numbers = "".join(f"<td>{percent(score)}</td>" for score in scores)
        swatch = f"<span class=swatch style='{paint}'></span>"
        rows.append(f"<tr{absent}><td>{swatch}{escape(name)}</td><td class=bar>{bar}</td>{numbers}</tr>")
    head = "<tr><th>class</th><th></th><th>IoU</th><th>precision</th><th>recall</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _confusion(scores: DatasetScores, classes: ClassTable) -> str:
    """Draw rows normalized to the class's labelled pixels; the diagonal is the recall."""
    head = "".join(f"<th><span>{escape(name)}</span></th>" for name in classes.names)
    rows = []
    for i, (truth, counts) in enumerate(zip(classes.names, scores.counts.tolist(), strict=True)):
        total = sum(counts)
        cells = []
        for j, (pred, count) in enumerate(zip(classes.names, counts, strict=True)):
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


def _figure(scores: DatasetScores, kind: str, image: str, source: str) -> str:
    """Draw a picture with its caption and the names of its panels; `source` is its path beside the page."""
    score = scores.images[image]
    scored = "" if math.isnan(score) else f", mIoU {percent(score)}"
    labelled = ["image", "truth", "prediction", "errors (red)"]
    panels = ["image", "prediction"] if scores.summary is None else labelled
    words = "".join(f"<span>{panel}</span>" for panel in panels)
    return (
        f"<figure><figcaption><b>{escape(kind)}</b>: {escape(image)}{scored}</figcaption>"
        f"<div><div class=panels>{words}</div>"
        f"<img src='{quote(source)}' alt='{escape(kind)} image'></div></figure>"
    )
