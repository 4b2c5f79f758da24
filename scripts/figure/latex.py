"""Write the mean IoU by method and domain as a LaTeX table, with mean and standard deviation over seeds."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from scripts.evaluations import RUNS_HELP, add_domain_flags, explained, main_columns, seen_columns
from utils.evaluation.saved import Saved, read_named
from utils.evaluation.tables import mean_and_deviation, seed_columns
from utils.files import write_text

SPECIAL = re.compile(r"([&%$#_{}])")
SIGNIFICANT = 0.05  # the p-value below which a difference between methods is not taken for chance
BOLD = f"Bold: the best, where Welch's t-test over seeds against every other method gives p < {SIGNIFICANT}."


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help=RUNS_HELP)
    add_domain_flags(parser)
    parser.add_argument("--out", type=Path, required=True, help="file to write, .tex")


def run(args: argparse.Namespace) -> None:
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, table(read_named(args.runs), args.seen, args.unseen))
    print(f"written to {args.out}")


def table(runs: dict[str, list[Saved]], seen: Sequence[str] = (), unseen: Sequence[str] = ()) -> str:
    """Return the table, which needs the package booktabs; its caption says how the scores were computed.

    The best mean of a column is bold if it is `clearly_best`, except on domains trained on.
    """
    marked = seen_columns([saved for seeds in runs.values() for saved in seeds], seen, unseen)
    means = {name: [saved.main_means for saved in seeds] for name, seeds in runs.items()}
    titles, columns = seed_columns(means, marked)
    best = [
        None if title.endswith("*") else clearly_best([row[i] for row in columns.values()])
        for i, title in enumerate(titles)
    ]
    lines = [[escaped(text) for text in ("mIoU (%)", "seeds", *titles)]]
    for number, (name, row) in enumerate(columns.items()):
        cells = [escaped(mean_and_deviation(scores)) for scores in row]
        cells = [rf"\textbf{{{cell}}}" if best[i] == number else cell for i, cell in enumerate(cells)]
        lines.append([escaped(name), str(len(runs[name])), *cells])
    sentences = explained(runs, main_columns(runs), marked)
    sentences += [BOLD] if any(one is not None for one in best) else []
    header, *body = [" & ".join(line) + r" \\" for line in lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(' '.join(sentences))}}}",
            rf"\begin{{tabular}}{{lr{'r' * len(titles)}}}",
            r"\toprule",
            header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def clearly_best(scores: Sequence[Sequence[float]]) -> int | None:
    """Return which of several methods is better than each other beyond chance; None if none is.

    `scores` are those of each method's seeds. A method with one seed, or a score that is nan, tells nothing
    about chance, so there is no best beside it; a method without any score is left out. The test is Welch's
    (Biometrika 34, 1947), two-sided.
    """
    known = {i: row for i, row in enumerate(scores) if not all(map(math.isnan, row))}
    if len(known) < 2 or any(len(row) < 2 or any(map(math.isnan, row)) for row in known.values()):
        return None
    best = max(known, key=lambda i: np.mean(known[i]))
    others = [row for i, row in known.items() if i != best and list(row) != list(known[best])]
    if len(others) < len(known) - 1:  # another method has the same scores
        return None
    p_values = [welch(known[best], row) for row in others]
    return best if max(p_values) < SIGNIFICANT else None


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Return that of Welch's test; 0 where neither method's seeds differ, but their means do."""
    if np.ptp(first) == np.ptp(second) == 0:
        return 0.0
    return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def escaped(text: str) -> str:
    """Return text as LaTeX has it."""
    return SPECIAL.sub(r"\\\1", text).replace("±", r"$\pm$").replace("<", "$<$")
