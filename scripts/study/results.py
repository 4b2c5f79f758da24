"""The results of the study's runs, read back and compared over seeds."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from scripts.figure.latex import SIGNIFICANT, welch
from scripts.study.plan import TASKS
from utils.errors import MissingFile, UserError

Result = Mapping[str, Any]  # what scripts.study.driver writes for one run
Runs = Mapping[str, Mapping[int, Result]]  # by method and seed


class Spread(NamedTuple):
    """The mean and the standard deviation (n - 1; nan for one number) of n numbers."""

    mean: float
    std: float
    number: int


@dataclass(frozen=True)
class Comparison:
    """One task's results, in the task's order of methods."""

    task: str
    runs: Runs
    missing: Sequence[str]  # method and seed of runs without a result

    @property
    def columns(self) -> list[str]:
        """The names of what is scored, then of the means over several of them."""
        of = TASKS[self.task]
        scored = [name for part in of.scored for name in part.names.values()]
        return [*scored, *(group for group, names in of.groups.items() if len(names) > 1)]

    @property
    def unseen(self) -> list[str]:
        """The columns that sum up what was not trained on, all of it first."""
        groups = TASKS[self.task].groups
        ordered = {"unseen": groups["unseen"]} | groups
        return [group if len(names) > 1 else names[0] for group, names in ordered.items()]

    @property
    def seen(self) -> list[str]:
        """What is scored and in no mean: the source domains."""
        unseen = {name for names in TASKS[self.task].groups.values() for name in names}
        return [
            name for part in TASKS[self.task].scored for name in part.names.values() if name not in unseen
        ]

    def score(self, method: str, seed: int, column: str) -> float:
        """Return the mean IoU of one run in a column, in [0, 1]."""
        scores, groups = self.runs[method][seed]["scores"], TASKS[self.task].groups
        return statistics.mean(scores[name] for name in groups.get(column, (column,)))

    def spread(self, method: str, column: str) -> Spread:
        """Return the mean IoU over the seeds of a method."""
        return spread(self.score(method, seed, column) for seed in self.runs[method])

    def gain(self, method: str, base: str, column: str = "unseen") -> Spread:
        """Return the difference to the run of `base` with the same seed, over the seeds that both have."""
        both = [seed for seed in self.runs[method] if seed in self.runs.get(base, {})]
        return spread(self.score(method, seed, column) - self.score(base, seed, column) for seed in both)

    def mark(self, method: str, base: str) -> str:
        """Return † if a paired t-test over seeds tells two methods apart, ‡ if Welch's t-test does, too."""
        if not significant(self.gain(method, base)):
            return ""
        sides = ([self.score(name, seed, "unseen") for seed in self.runs[name]] for name in (method, base))
        return "‡" if welch(*sides) < SIGNIFICANT else "†"


def spread(values: Iterable[float]) -> Spread:
    """Return mean and standard deviation, nan where there are too few numbers."""
    numbers = list(values)
    mean = statistics.mean(numbers) if numbers else math.nan
    return Spread(mean, statistics.stdev(numbers) if len(numbers) > 1 else math.nan, len(numbers))


def significant(difference: Spread) -> bool:
    """Whether a paired t-test tells a mean difference over seeds from 0; never for a single seed."""
    if difference.number < 2:
        return False
    least = stats.t.isf(SIGNIFICANT / 2, difference.number - 1) * difference.std / difference.number**0.5
    return abs(difference.mean) > float(least)


def read_results(folder: Path) -> list[Result]:
    """Read the results in a folder. Raises MissingFile if there are none, UserError for mixed sizes."""
    results = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    if not results:
        raise MissingFile(f"no results in {folder}; python -m scripts.study run writes them")
    if len(sizes := sorted({result["size"] for result in results})) > 1:
        raise UserError(f"{folder} mixes results of the sizes {' and '.join(sizes)}")
    return results


def compare(results: Iterable[Result], task: str) -> Comparison:
    """Return the results of one task."""
    runs: dict[str, dict[int, Result]] = {method: {} for method in TASKS[task].methods}
    for result in results:
        if result["task"] == task and result["method"] in runs:
            runs[result["method"]][result["seed"]] = result
    seeds = range(TASKS[task].seeds)
    missing = [f"{method} seed {seed}" for method in runs for seed in seeds if seed not in runs[method]]
    return Comparison(task, {method: found for method, found in runs.items() if found}, missing)


def bases_of(method: str) -> list[str]:
    """Return the methods that a method is compared with.

    A variant of ISW is compared with ISW, an adapted network with its student, the others with the baseline.
    What whitens is also compared with instance norm, which it whitens on top of, self-training with ABN for
    as many iterations, and an adapted ISW with the baseline, as it is and adapted in the same way.
    """
    if " + " in method:
        student, _, how = method.partition(" + ")
        adapted = [f"{student} + ABN"] * (how == "SAC") + [f"baseline + {how}"] * (student != "baseline")
        return [*dict.fromkeys(("baseline", student)), *adapted]
    if method.startswith("ISW "):
        return ["ISW"]
    bases: dict[str, list[str]] = {"baseline": []} | dict.fromkeys(("IW", "IRW", "ISW"), ["baseline", "IN"])
    return bases.get(method, ["baseline"])
