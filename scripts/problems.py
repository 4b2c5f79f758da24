"""What is wrong with a dataset, by kind: a few examples of each, and how many images, files and pixels."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from datasets.listing import ListedDataset, Sample
from utils.files import printable

EACH = 3  # examples of a kind that are printed
LONGEST = 600  # characters of a line
MEANING = {  # of problems, by what they are counted in
    "image": "cannot be used",
    "file": "left out",
    "split": "cannot be used",
    "pixel": "of unknown values",
}


class Problem(NamedTuple):
    """A sentence about something that is wrong with so many images or other things of one kind."""

    text: str
    kind: str
    unit: str = "image"  # or "file", "split"
    count: int = 1
    pixels: int = 0  # of unknown values


def of_sample(error: Exception, sample: Sample) -> Problem:
    """Return the problem of an image that raised `error`; their names and numbers make no kind."""
    kind = str(error)
    for path in (sample.image, sample.label):
        kind = kind.replace(printable(path), "") if path else kind
    pixels = getattr(error.__cause__, "pixels", 0)
    return Problem(str(error), re.sub(r"\d+", "#", kind), pixels=pixels)


def of_listing(dataset: ListedDataset) -> list[Problem]:
    """Return the problems of what a dataset left out when it was listed."""
    problems = []
    for text in dataset.skipped:
        if text not in dataset.incomplete:
            unit = "file" if text in dataset.counts else "image"
            problems.append(Problem(text, text.split(":")[0], unit, dataset.counts.get(text, 1)))
    return problems


def amounts(problems: Iterable[Problem]) -> dict[str, str]:
    """Return how many of each unit there are, and pixels: {"image": "3 images", "file": "1 file"}."""
    totals = dict.fromkeys(MEANING, 0)
    for problem in problems:
        totals[problem.unit] += problem.count
        totals["pixel"] += problem.pixels
    return {unit: f"{total} {unit}{'s' * (total != 1)}" for unit, total in totals.items() if total}


def lines(problems: Iterable[Problem]) -> Iterator[str]:
    """Yield the lines about problems: the first examples of each kind, then how many there are."""
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(problem)
    for of_kind in by_kind.values():
        yield from (shortened(problem.text) for problem in of_kind[:EACH])
        if len(of_kind) > EACH or any(problem.pixels for problem in of_kind):
            more = f"and {len(of_kind) - EACH} more: " if len(of_kind) > EACH else ""
            yield f"  {more}{', '.join(amounts(of_kind).values())} like this"


def shortened(text: str) -> str:
    """Return `text` without its middle if it is longer than a line may be."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 105]} ... {text[-100:]}"


def verdict(problems: Iterable[Problem]) -> str:
    """Return what problems mean for the use of a dataset: "NOT fine: ...", "" for no problem."""
    parts = [f"{amount} {MEANING[unit]}" for unit, amount in amounts(problems).items()]
    return f"NOT fine: {', '.join(parts)}" if parts else ""
