"""Merge the results of evaluations into one table: a row per run name, a column per dataset.

python -m scripts.summarize baseline=logs/a/eval isw=logs/b/eval isw=logs/c/eval --published robustnet_gtav

A RUN is a folder that eval.py wrote, or its results.json. Runs of one name, such as the seeds of an
experiment, become their mean and standard deviation (n - 1). Without runs, published numbers are printed.
Baselines of the same setting differ by up to 6 points between papers, so the table names its sources.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets import DATASETS
from utils.errors import MissingFile, UserError
from utils.evaluation import tables
from utils.exit import exit_cleanly

PUBLISHED = json.loads(Path(__file__).with_name("published_results.json").read_text())


def read_results(path: Path) -> dict[str, Any]:
    """Return the mean IU by dataset and the protocol that eval.py wrote to `path`, a file or its folder.

    Raises MissingFile, and UserError for another file or for a slice of a dataset.
    """
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise MissingFile(f"no results at {path}; eval.py writes them")
    try:
        record = json.loads(path.read_text())
        index, count = record["protocol"].get("slice", (0, 1))
        means = {
            name: scores["mean_iu"] if scores else math.nan for name, scores in record["metrics"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} does not hold results of eval.py") from error
    if count > 1:
        raise UserError(
            f"{path} is slice {index} of {count}; evaluate all slices into one folder, whose results.json "
            "then holds the whole datasets"
        )
    return {"means": means, "protocol": record["protocol"]}


def differences(protocols: list[dict[str, Any]]) -> str:
    """Name the settings in which the protocols of runs differ; empty if they agree."""
    keys = sorted({key for protocol in protocols for key in protocol})
    values = {key: sorted({str(protocol.get(key)) for protocol in protocols}) for key in keys}
    return "; ".join(f"{key} {' or '.join(found)}" for key, found in values.items() if len(found) > 1)


def main() -> None:
    """Read the runs that the command line names and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="*", metavar="[NAME=]RUN", help="folder or results.json of an evaluation"
    )
    parser.add_argument(
        "--seen", nargs="*", default=[], help="training domains: marked with * and excluded from the mean"
    )
    parser.add_argument(
        "--published",
        action="append",
        choices=PUBLISHED,
        default=[],
        help="add published numbers and mark their training domains; may be repeated",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args()
    rows: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    protocols, seen, notes = [], set(args.seen), [""]
    if not (args.runs or args.published):
        raise UserError("name a run, or published numbers with --published")
    for run in args.runs:
        name, _, path = run.rpartition("=")
        results = read_results(Path(path))
        folder = Path(path).parent if path.endswith(".json") else Path(path)
        rows[name or folder.as_posix()].append(results["means"])
        protocols.append(results["protocol"])
    for title in args.published:
        published, only = PUBLISHED[title], len(args.published) == 1
        for name, row in published["mean_iu_percent"].items():
            label = f"published {name}" if only else f"{title} {name}"
            rows[label].append({dataset: mean / 100 for dataset, mean in row.items()})
        seen |= set(published["trained_on"])
        notes.append(f"{'published' if only else title}: {published['source']}")
    scored = {dataset for runs in rows.values() for row in runs for dataset in row}
    if unknown := seen - scored - set(DATASETS):
        names = ", ".join(sorted(scored))
        raise UserError(f"--seen {', '.join(sorted(unknown))} is not a dataset; the runs have {names}")
    table = tables.markdown_table if args.markdown else tables.text_table
    print(table(tables.seed_rows(rows, seen)) + "\n".join(notes))
    if different := differences(protocols):
        print(f"\nnot comparable: the runs differ in {different}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
