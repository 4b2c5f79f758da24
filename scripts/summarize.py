"""Merge the results of evaluations into one table of domain x mIoU, a row per name of runs.

python -m scripts.summarize baseline=logs/a/eval isw=logs/b/eval isw=logs/c/eval --published robustnet_gtav

A RUN is a folder that eval.py wrote, or its results.json. Runs of one name, such as the seeds of an
experiment, become their mean and standard deviation (n - 1).
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

from datasets import DATASETS
from utils import report
from utils.exit import exit_cleanly

PUBLISHED = json.loads(Path(__file__).with_name("published_results.json").read_text())


def read_results(path: Path) -> dict:
    """Return what eval.py recorded at `path`; ValueError for another file or a slice of a dataset."""
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}; eval.py writes them")
    try:
        record = json.loads(path.read_text())
        index, count = record["protocol"].get("slice", (0, 1))
        domains = {
            name: domain["mean_iu"] if domain else math.nan for name, domain in record["metrics"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no results of eval.py") from error
    if count > 1:
        raise ValueError(
            f"{path} is slice {index} of {count}; once all are evaluated into one folder, its results.json "
            "has the whole"
        )
    return {"domains": domains, "protocol": record["protocol"]}


def differences(protocols: list[dict]) -> str:
    """Say in which settings the protocols of runs differ; empty if they agree."""
    keys = sorted({key for protocol in protocols for key in protocol})
    values = {key: sorted({str(protocol.get(key)) for protocol in protocols}) for key in keys}
    return "; ".join(f"{key} {' or '.join(found)}" for key, found in values.items() if len(found) > 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]RUN", help="folder or results.json of an evaluation"
    )
    parser.add_argument("--seen", nargs="*", default=[], help="domains trained on: marked, not in the mean")
    parser.add_argument(
        "--published", choices=PUBLISHED, help="add published numbers, and the domains seen there"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args()
    rows, protocols, seen, note = defaultdict(list), [], set(args.seen), ""
    for run in args.runs:
        name, _, path = run.rpartition("=")
        results = read_results(Path(path))
        folder = Path(path).parent if path.endswith(".json") else Path(path)
        rows[name or folder.as_posix()].append(results["domains"])
        protocols.append(results["protocol"])
    if args.published:
        published = PUBLISHED[args.published]
        for name, row in published["mean_iu_percent"].items():
            rows[f"published {name}"].append({domain: mean / 100 for domain, mean in row.items()})
        seen |= set(published["trained_on"])
        note = f"\npublished: {published['source']}"
    scored = {domain for domains in rows.values() for row in domains for domain in row}
    if unknown := seen - scored - set(DATASETS):
        names = ", ".join(sorted(scored))
        raise ValueError(f"--seen {', '.join(sorted(unknown))} is no dataset; scored are {names}")
    table = report.markdown_table if args.markdown else report.text_table
    print(table(report.seed_rows(rows, seen)) + note)
    if different := differences(protocols):
        print(f"\nnot comparable, the runs differ in {different}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
