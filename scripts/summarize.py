"""Merge the results.json files of evaluations into one table of domain x mIoU, a row per run.

python -m scripts.summarize baseline=logs/a/eval/results.json isw=logs/b/eval/results.json --seen gtav
"""

import argparse
import json
import math
from pathlib import Path

from utils import report
from utils.logging import exit_cleanly


def read_scores(path: Path) -> dict[str, float]:
    """Return mIoU in [0, 1] by domain, nan where a domain had no labels."""
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}; eval.py writes them")
    metrics = json.loads(path.read_text())["metrics"]
    return {domain: scores["mean_iu"] if scores else math.nan for domain, scores in metrics.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]FILE", help="results.json, with the name of its row"
    )
    parser.add_argument("--seen", nargs="*", default=[], help="domains trained on: marked, not in the mean")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args()
    scores = {}
    for run in args.runs:
        name, _, file = run.rpartition("=")
        scores[name or Path(file).parent.as_posix()] = read_scores(Path(file))
    table = report.markdown_table if args.markdown else report.text_table
    print(table(report.domain_rows(scores, args.seen)))


if __name__ == "__main__":
    with exit_cleanly():
        main()
