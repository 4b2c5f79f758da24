"""Draw figures for a page or a paper.

python -m scripts.figure strip baseline=A.pth isw=B.pth --dataset mapillary --out strip.png
python -m scripts.figure classes baseline=RUN1 isw=RUN2 --dataset mapillary --out classes.svg
python -m scripts.figure domains baseline=RUN1 isw=RUN2 --out domains.png
python -m scripts.figure latex baseline=RUN1 baseline=RUN2 isw=RUN3 isw=RUN4 --out table.tex
"""

from collections.abc import Sequence

from scripts.figure import classes, domains, latex, strip
from utils.exit import exit_cleanly
from utils.parser import Parser

FIGURES = {"strip": strip, "classes": classes, "domains": domains, "latex": latex}


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="figure", required=True)
    for name, figure in FIGURES.items():
        text = figure.__doc__ or ""
        figure.add_flags(commands.add_parser(name, help=text.splitlines()[0], description=text))
    args = parser.parse_args(argv)
    FIGURES[args.figure].run(args)


if __name__ == "__main__":
    with exit_cleanly():
        main()
