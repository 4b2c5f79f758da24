"""Measure what parts of the code cost on this machine.

python -m scripts.benchmark data --root data/benchmark
python -m scripts.benchmark train --arch DeepR50V3PlusD --batch 4
python -m scripts.benchmark eval --arch DeepR50V3PlusD
python -m scripts.benchmark disk
python -m scripts.benchmark goals
python -m scripts.benchmark statistics
python -m scripts.benchmark scaling

To add a benchmark, write a module with `add_flags(parser)` and `run(args)` and list it in BENCHMARKS. Its
docstring becomes its help.
"""

from collections.abc import Sequence

from scripts.benchmark import data, disk, goals, scaling, statistics, train
from scripts.benchmark import eval as evaluation
from utils.exit import exit_cleanly
from utils.parser import Parser

BENCHMARKS = {
    "data": data,
    "train": train,
    "eval": evaluation,
    "disk": disk,
    "goals": goals,
    "statistics": statistics,
    "scaling": scaling,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    for name, benchmark in BENCHMARKS.items():
        text = benchmark.__doc__ or ""
        benchmark.add_flags(commands.add_parser(name, help=text.splitlines()[0], description=text))
    args = parser.parse_args(argv)
    BENCHMARKS[args.what].run(args)


if __name__ == "__main__":
    with exit_cleanly():
        main()
