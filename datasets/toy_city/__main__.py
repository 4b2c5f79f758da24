"""Render a small town in five domain styles, in the layouts and encodings of the real datasets."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from datasets.toy_city.adverse import ADVERSE_STYLES, GROUPS
from datasets.toy_city.styles import STYLES
from datasets.toy_city.write import write_toy_city
from utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m datasets.toy_city", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="directory to write to; it gets one folder per domain"
    )
    parser.add_argument("--height", type=int, default=256, help="px")
    parser.add_argument("--width", type=int, default=512, help="px")
    parser.add_argument("--train", type=int, default=64, help="training images per domain")
    parser.add_argument("--val", type=int, default=16, help="validation images per domain")
    parser.add_argument("--seed", type=int, default=0, help="another seed renders another town")
    parser.add_argument(
        "--domains",
        nargs="+",
        default=list(STYLES),
        metavar="NAME",
        help=f"the default is {', '.join(STYLES)}; there are also {', '.join([*ADVERSE_STYLES, *GROUPS])}",
    )
    args = parser.parse_args(argv)
    try:
        write_toy_city(
            args.out,
            size=(args.height, args.width),
            train=args.train,
            val=args.val,
            seed=args.seed,
            domains=args.domains,
        )
    except UserError as error:
        parser.error(str(error))
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
