"""Write the mean IoU by method and domain as a LaTeX table, with mean and standard deviation over seeds."""

import argparse
import re
from pathlib import Path

from utils.evaluation.saved import Saved, protocols, read_named
from utils.evaluation.tables import seed_rows
from utils.files import write_text

SPECIAL = re.compile(r"([&%$#_{}])")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=RESULTS", help="folders of eval.py; equal names are seeds"
    )
    parser.add_argument(
        "--seen", nargs="*", default=[], help="more training domains, marked with * and not in the mean"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write, .tex")


def run(args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, table(read_named(args.runs), args.seen))
    print(f"written to {args.out}")


def table(runs: dict[str, list[Saved]], seen: list[str]) -> str:
    """Return the table, which needs the package booktabs; the best mean of each column is bold.

    Comments say how the scores were computed.
    """
    every = [saved for seeds in runs.values() for saved in seeds]
    seen = [*seen, *(domain for saved in every for domain in saved.training_domains)]
    means = {name: [saved.main_means for saved in seeds] for name, seeds in runs.items()}
    header, *rows = seed_rows(means, seen)
    for column in range(1, len(header)):
        best = max(range(len(rows)), key=lambda row: first_number(rows[row][column]))
        if first_number(rows[best][column]) >= 0:
            rows[best][column] = rf"\textbf{{{rows[best][column]}}}"
    lines = [" & ".join(map(cell, row)) + r" \\" for row in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join(
        [
            *(f"% {text}" for text in protocols(every)),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def first_number(text: str) -> float:
    """Return the number that a cell begins with; below all others for a cell without one."""
    found = re.match(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else -1.0


def cell(text: str) -> str:
    """Return a cell's text as LaTeX has it."""
    if text.startswith(r"\textbf"):
        return text.replace("±", r"$\pm$")
    return SPECIAL.sub(r"\\\1", text).replace("±", r"$\pm$")
