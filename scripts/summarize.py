"""Merge the results of evaluations into one table: a row per run name, a column per dataset.

python -m scripts.summarize baseline=logs/a isw=logs/b isw=logs/c --published robustnet_gtav

A RUN is the folder of a training run with evaluations in it, the folder of one evaluation, or its
results.json. Runs of one name, such as the seeds of an experiment, become their mean and standard
deviation (n - 1). Training domains come from the results. Without runs, published numbers are printed.
Baselines of the same setting differ by up to 6 points between papers, so the table names its sources.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.evaluations import RUNS_HELP, add_domain_flags, seen_columns
from utils.errors import UserError
from utils.evaluation import tables
from utils.evaluation.saved import Saved, differences, protocols, read
from utils.evaluation.scores import METRICS, network_name
from utils.exit import exit_cleanly
from utils.files import named_path
from utils.parser import Parser

PUBLISHED = json.loads(Path(__file__).with_name("published_results.json").read_text())
MARK = " †"  # of a run that cannot be compared with the published numbers


def unlike_published(run: Saved, published: Mapping[str, Any]) -> list[str]:
    """Say why a run cannot be compared with a group of published numbers; empty if it can."""
    texts = []
    for key, value in published.get("protocol", {}).items():
        if (found := run.protocol.get(key)) != value:
            texts.append(f"{key} {found}, not {value}")
    networks = published.get("networks")
    if networks and run.network.get("arch") not in networks:
        texts.append(f"network {network_name(run.network)}, not {' or '.join(networks)}")
    domains = published["trained_on"]
    if set(run.training_domains) != set(domains):
        trained = ", ".join(run.training_domains) or "unknown domains"
        texts.append(f"trained on {trained}, not {', '.join(domains)}")
    shown = {name for row in published["mean_iu_percent"].values() for name in row}
    number = published.get("classes", 19)
    for dataset, names in run.counted.items():
        if dataset in shown and len(names) != number:
            texts.append(f"{dataset}: mean over {len(names)} classes, not {number}")
    return texts


def main() -> None:
    """Read the runs that the command line names and print their table."""
    args = _parse()
    notes = []
    named: defaultdict[str, list[Saved]] = defaultdict(list)
    if not (args.runs or args.published):
        raise UserError("name a run, or published numbers with --published")
    if args.published and args.metric != "mean_iu":
        raise UserError(f"--published has the mean IoU only; leave it out with --metric {args.metric}")
    for text in args.runs:
        name, given = named_path(text)
        path = Path(given)
        run = read(path)
        label = name or (path.parent if path.is_file() else path).as_posix()
        named[f"{label} ({network_name(run.network)})" if run.network else label].append(run)
    rows: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
    for label, runs in named.items():
        reasons = {
            reason: None
            for title in args.published
            for run in runs
            for reason in unlike_published(run, PUBLISHED[title])
        }
        rows[label + MARK * bool(reasons)] = [run.main_values(args.metric) for run in runs]
        if reasons:
            notes.append(f"† {label}: not comparable with the published numbers: {'; '.join(reasons)}")
    for title in args.published:
        published, only = PUBLISHED[title], len(args.published) == 1
        for name, row in published["mean_iu_percent"].items():
            label = f"published {name}" if only else f"{title} {name}"
            rows[label].append({dataset: mean / 100 for dataset, mean in row.items()})
        notes.append(f"{'published' if only else title}: {published['source']}")
    every = [run for runs in named.values() for run in runs]
    scored = {dataset for runs in rows.values() for row in runs for dataset in row}
    seen = seen_columns(every, args.seen, args.unseen, scored)
    seen |= {domain for title in args.published for domain in PUBLISHED[title]["trained_on"]}
    table = tables.markdown_table if args.markdown else tables.text_table
    shown = tables.seed_rows(rows, seen, numbered=True, title=METRICS[args.metric])
    print("\n".join([table(shown), *protocols(every), *notes]))
    if different := differences(every) + _differences_of_measures(every, args.metric):
        print(f"\nnot comparable: the runs differ in {'; '.join(different)}")


def _parse() -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="[NAME=]RUN", help=RUNS_HELP)
    add_domain_flags(parser)
    parser.add_argument(
        "--published",
        action="append",
        choices=PUBLISHED,
        default=[],
        help="add published numbers and mark their training domains; may be repeated",
    )
    parser.add_argument("--metric", choices=METRICS, default="mean_iu", help="what the table shows")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    return parser.parse_args()


def _differences_of_measures(runs: Sequence[Saved], metric: str) -> list[str]:
    """Say in which bins or width of bands the runs differ; UserError if none measured `metric`."""
    if metric == "mean_iu":
        return []
    flag = {"ece": "calibration"}.get(metric, metric)
    shown = [run.measures[name].get(flag) for run in runs for name in run.main_values(metric)]
    values = sorted({str(value) for value in shown if value is not None})
    if not values:
        raise UserError(f"no run has the {METRICS[metric]}; evaluate them with --{flag}")
    return [f"--{flag} {' or '.join(values)}"] if len(values) > 1 else []


if __name__ == "__main__":
    with exit_cleanly():
        main()
