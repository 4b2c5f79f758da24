"""Arrange a downloaded dataset the way training reads it, and check the datasets that are there.

    python -m scripts.prepare_data gtav --src DOWNLOADS --dst data/gtav     # links; --copy for copies
    python -m scripts.prepare_data check gtav cityscapes                    # no names: all that are there

The first takes archives (zip, tar, tar.gz) and extracted folders as the official sites hand them out, at any
depth below DOWNLOADS, and may be interrupted and run again. The second reads every file and ends with code 1
if anything is wrong.
"""

import logging
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # also run as python scripts/prepare_data.py
import config
from datasets import DATASETS
from datasets.base import SegmentationDataset, sample_rng
from datasets.listing import NoImages, Sample
from datasets.splits import read_split, split_names
from datasets.walk import found_in, walk
from scripts import problems
from scripts.archives import OUTER, Archive, Member, is_called_archive, not_read
from utils import bars
from utils.classes import CITYSCAPES
from utils.errors import MissingFile, UserError, few
from utils.evaluation import tables
from utils.exit import exit_cleanly
from utils.files import printable
from utils.parser import Parser

NEEDED = ("train", "val")  # the other splits need not be there
UNION = "trainval"  # a split whose files are those of train and val
SHOWN = 20  # files in no split that are printed
PER_PART = 2500  # images in one of GTAV's archives


class Download(NamedTuple):
    """A file of a download, or a member of an archive."""

    file: Path
    size: int  # bytes
    archive: Archive | None = None
    member: Member | None = None  # of `archive`

    @property
    def path(self) -> str:
        """The path whose end says what the file is, with the suffix as download patterns have it."""
        path, suffix = os.path.splitext(f"/{self.member.name}" if self.member else self.file.as_posix())
        return path + suffix.lower().replace(".jpeg", ".jpg")

    def is_same_file(self, other: "Download") -> bool:
        """Return whether two paths are links to one file."""
        return not (self.member or other.member) and self.file.samefile(other.file)

    def __str__(self) -> str:
        file = printable(self.file)
        return f"{file}:{printable(self.member.name)}" if self.member else file


class Found(NamedTuple):
    """What is in a download: files, and archives that are not read with what to do about them."""

    downloads: list[Download]
    unread: list[tuple[str, str]]


def list_downloads(src: Path, dst: Path, archives: ExitStack) -> Found:
    """Return the files below the folder `src` (or in the archive `src`), those in archives last.

    The archives are opened, and closed with `archives`. Files below `dst` are left out.
    """
    files = [src] if src.is_file() else walk(src).files
    found, packed, unread = [], [], []
    for file in files:
        if is_called_archive(file.name):
            if (advice := not_read(file)) is None:
                archive = Archive(file)
                archives.callback(archive.close)
                members = [Download(file, member.size, archive, member) for member in archive.members]
                packed += members
                unread += [(str(inner), OUTER) for inner in members if is_called_archive(inner.path)]
            elif advice:
                unread.append((printable(file), advice))
        elif dst.absolute() not in file.absolute().parents and file.exists():
            found.append(Download(file.absolute(), file.stat().st_size))
    found.sort(key=lambda download: download.file.is_symlink())  # the file rather than a link to it
    return Found(found + packed, unread)


class Plan(NamedTuple):
    """What of a download goes where below the root, what is in no split, and what is there twice."""

    wanted: dict[str, Download]  # path below the root -> download
    strange: list[Download]
    twice: list[tuple[Download, Download]]  # the first is in `wanted`


def plan(name: str, downloads: list[Download]) -> Plan:
    """Return the plan for a dataset's download; UserError for two different files for one place."""
    lists = {entry.removeprefix(f"{name}_"): read_split(entry) for entry in split_names(name)}
    planned = Plan({}, [], [])
    for download in downloads:
        for pattern, template in DATASETS[name].download:
            if match := re.search(f"/{pattern}$", download.path):
                target = match.expand(template)
                if "{split}" in target:
                    number = int(match["number"])
                    split = next((split for split, numbers in lists.items() if number in numbers), None)
                    if split in (None, "left_out"):
                        planned.strange.extend([download] if split is None else [])
                        break
                    folder = DATASETS[name].folders.get(split, split)
                    target = target.format(split=folder, part=f"{(number - 1) // PER_PART + 1:02d}")
                first = planned.wanted.setdefault(target, download)
                if first is not download and not first.is_same_file(download):
                    planned.twice.append((first, download))
                break
    for first, second in planned.twice:
        if first.size != second.size:
            raise UserError(
                f"{first} ({first.size} bytes) and {second} ({second.size} bytes) are different files for "
                "one place; remove the wrong one, or name a folder with only one of them as --src"
            )
    return planned


def place(download: Download, target: Path, copy: bool) -> bool:
    """Link, copy or extract a file and return True; False if it was there. UserError if another file is."""
    if target.exists():
        if target.stat().st_size != download.size:
            raise UserError(
                f"{target} is there with {target.stat().st_size} bytes, but {download} has {download.size}; "
                "remove the wrong one"
            )
        return False
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if download.archive and download.member:
            download.archive.extract(download.member, temporary)
        elif copy:
            shutil.copyfile(download.file, temporary)
        else:
            temporary.symlink_to(download.file)
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def arrange(name: str, src: Path, dst: Path, copy: bool = False) -> None:
    """Place the wanted files of a download below `dst`; MissingFile if there are none."""
    if not src.exists():
        raise MissingFile(f"--src {src}: {found_in(src)}")
    if dst.exists() and not dst.is_dir():
        raise UserError(f"--dst {dst} is a file; name a folder")
    with ExitStack() as archives:
        downloads, unread = list_downloads(src, dst, archives)
        wanted, strange, twice = plan(name, downloads)
        advice = described(unread)
        if not wanted:
            hint = f"; {advice}" if unread else ""
            if src.resolve().is_relative_to(dst.resolve()):
                hint += f"; only archives are read from --src in --dst {dst}: name another --dst"
            patterns = " or ".join(pattern for pattern, _ in DATASETS[name].download)
            raise MissingFile(
                f"nothing of {name} in {src}: expected {patterns}; found: {found_in(src)}{hint}"
            )
        check_archives(wanted.values())
        steps = bars.over(wanted.items(), name, unit="file")
        placed = sum(place(download, dst / target, copy) for target, download in steps)
    if unread:
        print(advice)
    if twice:
        first, second = twice[0]
        print(f"{len(twice)} files are there twice, such as {second}, instead of which {first} is used")
    for download in strange[:SHOWN]:
        print(f"in no published split, not placed: {download}")
    if len(strange) > SHOWN:
        print(f"and {len(strange) - SHOWN} more in no published split")
    others = len(downloads) - len(wanted) - len(strange) - len(twice)
    print(
        f"{name}: {placed} files placed in {dst}, {len(wanted) - placed} were there; "
        f"{len(strange)} in no split, {others} others not wanted\n"
        f"now run: python -m scripts.prepare_data check {name}"
    )


def described(unread: list[tuple[str, str]]) -> str:
    """Say which archives are not read and what to do about them."""
    by_advice: dict[str, list[str]] = defaultdict(list)
    for name, advice in unread:
        by_advice[advice].append(name)
    return "; ".join(f"not read: {few(names, 3)}: {advice}" for advice, names in by_advice.items())


def check_archives(wanted: Iterable[Download]) -> None:
    """Raise UserError if any of the wanted files is in an archive and cannot be read there."""
    members: dict[Archive, list[Member]] = defaultdict(list)
    for download in wanted:
        if download.archive and download.member:
            members[download.archive].append(download.member)
    for archive, of_archive in members.items():
        archive.check(of_archive)


def unchanged(image: Any, label: Any, centroid: Any, rng: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return image and label as arrays (H, W, 3) and (H, W) or None; a transform."""
    return np.asarray(image), None if label is None else np.asarray(label)


def inspect(
    dataset: SegmentationDataset, num_classes: int, workers: int
) -> tuple[list[problems.Problem], np.ndarray]:
    """Read all files of a split; return what is wrong and the pixels of each class, not scored ones last."""

    def read(sample: Sample) -> tuple[problems.Problem | None, np.ndarray]:
        none = np.zeros(num_classes + 1, np.int64)
        try:
            label = dataset.load(sample, sample_rng(0))["label"]
        except UserError as error:
            return problems.of_sample(error, sample), none
        if sample.label is None:
            return None, none
        return None, np.bincount(np.minimum(label, num_classes).ravel(), minlength=num_classes + 1)

    title = f"{dataset.name} {dataset.split}"
    with ThreadPoolExecutor(workers) as pool:
        results = bars.over(pool.map(read, dataset.samples), title, len(dataset))
        errors, pixels = zip(*results, strict=True)
    return [error for error in errors if error], sum(pixels)


def check(name: str, root: Path, workers: int) -> bool:
    """Print counts, problems, class shares and a verdict for one dataset; return whether it can be used.

    Another number of images than the published one, as of a dataset of one's own, is not an error.
    """
    print(f"\n{name}: {printable(root)}")
    dataset_class = DATASETS[name]
    class_names = (dataset_class.classes or CITYSCAPES).names
    wrong: list[problems.Problem] = []
    published_counts, pixels = True, np.zeros(len(class_names) + 1, np.int64)
    splits = (
        dataset_class.splits if dataset_class.layouts else ("val",)
    )  # a folder is the same in every split
    for split in splits:
        if split == UNION:
            continue
        try:
            dataset = dataset_class(root, split, unchanged, skip_unlabelled=True)
        except UserError as error:
            if split in NEEDED or not isinstance(error, NoImages):
                print(f"  {split}: {problems.shortened(str(error))}")
                wrong.append(problems.Problem(str(error), split, "split"))
            continue
        unusable, found = inspect(dataset, len(class_names), workers)
        of_split = problems.of_listing(dataset) + unusable
        published = dataset_class.published.get(split)
        other_number = published not in (None, len(dataset)) and dataset_class.published_is_sure
        published_counts &= not (other_number or dataset.incomplete)
        print(f"  {split}: {len(dataset)} images (published: {published or 'no number'})")
        for line in [*dataset.notes, *dataset.incomplete]:
            print(f"    {problems.shortened(line)}")
        for line in problems.lines(of_split):
            print(f"    {line}")
        wrong, pixels = wrong + of_split, pixels + found
    if pixels.any():
        shares = 100 * pixels / pixels.sum()
        columns = zip((*class_names, "(not scored)"), pixels, shares, strict=True)
        rows = [[class_name, str(number), f"{share:.3f}"] for class_name, number, share in columns]
        print(tables.text_table([["class", "pixels", "%"], *rows]))
    good = "fine" if published_counts else "complete for training, not the published counts"
    print(f"{name}: {problems.verdict(wrong) or good}")
    return not wrong


def check_all(names: list[str], data_root: str | None, workers: int) -> bool:
    """Check the named datasets, or all whose root is there; return whether all is well."""
    roots = config.Roots(data_root)
    results = []
    own_roots = [name for name in checkable() if not DATASETS[name].root_name]
    for name in names or own_roots:
        root = roots(DATASETS[name])
        if names or root.is_dir():
            with quiet():
                results.append(check(name, root, workers))
        else:
            print(f"\n{name}: {printable(root)} is not there")
    if not results:
        print("\nno dataset is there")
    return bool(results) and all(results)


@contextmanager
def quiet() -> Iterator[None]:
    """Log only errors: what a dataset leaves out is printed with the rest."""
    logger = logging.getLogger("robustnet")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def checkable() -> list[str]:
    """Return the names of the datasets that have files."""
    return [name for name, dataset in DATASETS.items() if dataset.root_variable]


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET|check")
    for name in (name for name, dataset in DATASETS.items() if dataset.download):
        command = commands.add_parser(name, help=f"arrange {name}")
        command.add_argument("--src", type=Path, required=True, help="folder of the download, or one archive")
        command.add_argument("--dst", type=Path, required=True, help="root to arrange it in")
        command.add_argument(
            "--copy", action="store_true", help="copy extracted files instead of linking them"
        )
    command = commands.add_parser("check", help="read every file of the datasets and say what is wrong")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all that are there")
    command.add_argument("--data_root", help="folder of the datasets by name; default: as for train.py")
    command.add_argument("--workers", type=int, default=os.cpu_count(), help="threads")
    args = parser.parse_args(argv)
    if args.command != "check":
        arrange(args.command, args.src, args.dst, args.copy)
        return
    config.check_workers("--workers", args.workers, 1)
    if unknown := sorted(set(args.names) - set(checkable())):
        raise UserError(f"unknown dataset {', '.join(unknown)}, choose from {', '.join(checkable())}")
    if not check_all(args.names, args.data_root, args.workers):
        raise SystemExit(1)


if __name__ == "__main__":
    with exit_cleanly():
        main()
