"""What the commands that show evaluations share: how runs are named, and which domains count as seen."""

import argparse
from collections.abc import Iterable, Mapping, Sequence

from datasets import DATASETS
from utils.errors import UserError
from utils.evaluation.saved import Saved, differences, protocol_title
from utils.evaluation.scores import averaged_classes
from utils.variants import parse

RUN_HELP = "a training run's folder with evaluations in it, or one evaluation's"
RUNS_HELP = f"{RUN_HELP}; equal names are seeds"


def add_domain_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which domains count as seen. What a run was trained on, its results know."""
    add = parser.add_argument
    add("--seen", nargs="*", default=[], metavar="NAME", help="more training domains: not in the mean")
    add(
        "--unseen",
        nargs="*",
        default=[],
        metavar="NAME",
        help="columns that count as unseen although their dataset was trained on, such as camvid_test where "
        "its splits differ as domains do",
    )


def seen_columns(
    runs: Sequence[Saved], seen: Iterable[str] = (), unseen: Iterable[str] = (), more: Iterable[str] = ()
) -> set[str]:
    """Return the columns of domains that any of the runs was trained on or adapted to.

    `seen` adds, and `unseen` takes away, single columns or all of a dataset. Columns that are in none of the
    runs are `more`. Raises UserError for names of neither.
    """
    datasets = {name: name for name in more}
    datasets |= {column: parse(place.dataset).dataset for run in runs for column, place in run.places.items()}
    for flag, names in (("--seen", seen), ("--unseen", unseen)):
        if unknown := {*names} - {*datasets, *datasets.values(), *DATASETS}:
            found = ", ".join(sorted(datasets))
            raise UserError(f"{flag} {', '.join(sorted(unknown))} is not a dataset; the runs have {found}")

    def named(names: Iterable[str]) -> set[str]:
        return {column for column, dataset in datasets.items() if {column, dataset} & {*names}}

    return named([*seen, *(domain for run in runs for domain in run.training_domains)]) - named(unseen)


def with_seeds(runs: Mapping[str, list[Saved]]) -> dict[str, list[Saved]]:
    """Return runs by a name that says how many seeds they are, if any has several."""
    several = any(len(seeds) > 1 for seeds in runs.values())
    return {f"{name} (n={len(seeds)})" if several else name: seeds for name, seeds in runs.items()}


def main_columns(runs: Mapping[str, list[Saved]]) -> list[str]:
    """Return the columns of `Saved.main_means` that any of the runs has."""
    return [*dict.fromkeys(column for seeds in runs.values() for run in seeds for column in run.main_means)]


def explained(runs: Mapping[str, list[Saved]], columns: Sequence[str], seen: set[str]) -> list[str]:
    """Return the sentences of a caption: seeds, protocol, classes in the means of `columns`, marks.

    Those of `columns` that are in `seen` have a mark.
    """
    every = [saved for seeds in runs.values() for saved in seeds]
    texts = ["Mean and standard deviation over n seeds."] if len(every) > len(runs) else []
    texts += [f"Protocol: {text}." for text in dict.fromkeys(protocol_title(run.protocol) for run in every)]
    counted = {name: len(run.counted[name]) for run in every for name in columns if run.counted.get(name)}
    texts += [f"mIoU is the {averaged_classes(counted)}."] if counted else []
    different = differences(every)
    texts += [f"Not comparable: the runs differ in {'; '.join(different)}."] if different else []
    texts += ["* trained on or adapted to."] if seen & {*columns} else []
    return texts
