"""Render a small town in five domain styles, in the layouts and encodings of the real datasets."""

from collections.abc import Sequence
from pathlib import Path

from datasets.toy_city.adverse import ADVERSE_STYLES, GROUPS
from datasets.toy_city.styles import STYLES
from datasets.toy_city.write import write_toy_city
from utils.parser import Parser, one_sentence


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="directory to write to; it gets one folder per domain"
    )
    parser.add_argument("--height", type=int, default=256, help="of an image, px")
    parser.add_argument("--width", type=int, default=512, help="of an image, px")
    parser.add_argument("--train", type=int, default=64, help="training images per domain")
    parser.add_argument("--val", type=int, default=16, help="validation images per domain")
    parser.add_argument("--seed", type=int, default=0, help="another seed renders another town")
    parser.add_argument(
        "--domains",
        nargs="+",
        default=list(STYLES),
        metavar="NAME",
        help=f"datasets to imitate, of {', '.join([*STYLES, *ADVERSE_STYLES, *GROUPS])}",
    )
    with one_sentence():
        args = parser.parse_args(argv)
        write_toy_city(
            args.out,
            size=(args.height, args.width),
            train=args.train,
            val=args.val,
            seed=args.seed,
            domains=args.domains,
        )
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
