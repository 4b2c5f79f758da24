"""Arrange a downloaded dataset the way training reads it, and check the datasets that are there.

    python -m scripts.prepare_data gtav --src DOWNLOADS --dst data/gtav     # links; --copy for copies
    python -m scripts.prepare_data check gtav cityscapes                    # no names: all that are there

The first takes zip archives and extracted folders as the official sites hand them out, at any depth below
DOWNLOADS, and may be interrupted and run again. The second reads every file and ends with code 1 if anything
is wrong.
"""

import argparse
import logging
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # also run as python scripts/prepare_data.py
import config
from datasets import DATASETS
from datasets.base import SegmentationDataset, sample_rng
from datasets.listing import NoImages, Sample
from datasets.splits import read_split, split_names
from datasets.walk import files_below, found_in
from utils.classes import CITYSCAPES
from utils.errors import MissingFile, UserError
from utils.evaluation import tables
from utils.exit import exit_cleanly

OTHER_ARCHIVES = (".rar", ".tar", ".tar.gz", ".tgz", ".7z")
NEEDED = ("train", "val")  # the other splits need not be there
UNION = "trainval"  # a split whose files are those of train and val
SHOWN = 20  # problems of a split that are printed
PER_PART = 2500  # images in one of GTAV's archives


class Download(NamedTuple):
    """A file of a download, or a member of an archive."""

    file: Path
    member: str | None  # of the archive `file`
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.member}" if self.member else str(self.file)


def list_downloads(src: Path, dst: Path) -> list[Download]:
    """Return the files below the folder `src` (or in the archive `src`), those in zip archives last."""
    files = [src] if src.is_file() else files_below(src, "")
    found = [
        Download(file.absolute(), None, file.stat().st_size)
        for file in files
        if file.suffix.lower() != ".zip" and dst.absolute() not in file.absolute().parents
    ]
    for file in files:
        if file.suffix.lower() == ".zip":
            try:
                with ZipFile(file) as archive:
                    members = archive.infolist()
            except BadZipFile as error:
                raise UserError(f"archive {file} cannot be read: {error}; download it again") from error
            found += [Download(file, info.filename, info.file_size) for info in members if not info.is_dir()]
    return found


def plan(name: str, downloads: list[Download]) -> tuple[dict[str, Download], list[Download]]:
    """Return {path below the root: download} of what is wanted, and images of no published split."""
    lists = {entry.removeprefix(f"{name}_"): read_split(entry) for entry in split_names(name)}
    wanted: dict[str, Download] = {}
    strange: list[Download] = []
    for download in downloads:
        path = f"/{download.member or download.file.as_posix()}"
        for pattern, template in DATASETS[name].download:
            if match := re.search(f"/{pattern}$", path):
                target = match.expand(template)
                if "{split}" in target:
                    number = int(match["number"])
                    split = next((split for split, numbers in lists.items() if number in numbers), None)
                    if split in (None, "left_out"):
                        strange += [download] if split is None else []
                        break
                    folder = DATASETS[name].folders.get(split, split)
                    target = target.format(split=folder, part=f"{(number - 1) // PER_PART + 1:02d}")
                wanted.setdefault(target, download)
                break
    return wanted, strange


def place(download: Download, target: Path, copy: bool) -> bool:
    """Link, copy or extract a file and return True; False if it was there. UserError if another file is."""
    if target.exists():
        if target.stat().st_size != download.size:
            raise UserError(
                f"{target} is there with {target.stat().st_size} bytes, but {download} has {download.size}; "
                "remove the wrong one"
            )
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        if download.member:
            with ZipFile(download.file) as archive, archive.open(download.member) as data:
                with temporary.open("xb") as file:
                    shutil.copyfileobj(data, file)
        elif copy:
            shutil.copyfile(download.file, temporary)
        else:
            temporary.symlink_to(download.file)
        os.replace(temporary, target)
    except BadZipFile as error:
        raise UserError(f"archive member {download} cannot be read: {error}; download it again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def arrange(name: str, src: Path, dst: Path, copy: bool = False) -> None:
    """Place the wanted files of a download below `dst`; MissingFile if there are none."""
    if not src.exists():
        raise MissingFile(f"--src {src}: {found_in(src)}")
    downloads = list_downloads(src, dst)
    wanted, strange = plan(name, downloads)
    if not wanted:
        packed = [str(s.file) for s in downloads if not s.member and s.file.name.endswith(OTHER_ARCHIVES)]
        hint = f"; extract {', '.join(packed)} first" if packed else ""
        patterns = " or ".join(pattern for pattern, _ in DATASETS[name].download)
        raise MissingFile(f"nothing of {name} in {src}: expected {patterns}; found: {found_in(src)}{hint}")
    bar = tqdm(wanted.items(), name, unit="file")
    placed = sum(place(download, dst / target, copy) for target, download in bar)
    for download in strange[:SHOWN]:
        print(f"in no published split, not placed: {download}")
    print(
        f"{name}: {placed} files placed in {dst}, {len(wanted) - placed} were there; "
        f"{len(strange)} in no split, {len(downloads) - len(wanted) - len(strange)} others not wanted\n"
        f"now run: python -m scripts.prepare_data check {name}"
    )


def unchanged(image: Any, label: Any, centroid: Any, rng: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return image and label as arrays (H, W, 3) and (H, W) or None; a transform."""
    return np.asarray(image), None if label is None else np.asarray(label)


def inspect(dataset: SegmentationDataset, num_classes: int, workers: int) -> tuple[list[str], np.ndarray]:
    """Read all files of a split; return what is wrong and the pixels of each class, not scored ones last."""

    def read(sample: Sample) -> tuple[str | None, np.ndarray]:
        none = np.zeros(num_classes + 1, np.int64)
        try:
            label = dataset.load(sample, sample_rng(0))["label"]
        except UserError as error:
            return str(error), none
        if sample.label is None:
            return None, none
        return None, np.bincount(np.minimum(label, num_classes).ravel(), minlength=num_classes + 1)

    title = f"{dataset.name} {dataset.split}"
    with ThreadPoolExecutor(workers) as pool:
        results = tqdm(pool.map(read, dataset.samples), title, len(dataset), unit="image", leave=False)
        errors, pixels = zip(*results, strict=True)
    return [error for error in errors if error], sum(pixels)


def check(name: str, root: Path, workers: int) -> bool:
    """Print counts, problems, class shares and a verdict for one dataset; return whether all is well."""
    print(f"\n{name}: {root}")
    dataset_class = DATASETS[name]
    class_names = (dataset_class.classes or CITYSCAPES).names
    count, pixels = 0, np.zeros(len(class_names) + 1, np.int64)
    splits = (
        dataset_class.splits if dataset_class.layouts else ("val",)
    )  # a folder is the same in every split
    for split in splits:
        if split == UNION:
            continue
        try:
            dataset = dataset_class(root, split, unchanged, skip_unlabelled=True)
        except NoImages as error:
            if split in NEEDED:
                print(f"  {split}: {error}")
                count += 1
            continue
        except UserError as error:
            print(f"  {split}: {error}")
            count += 1
            continue
        problems, found = inspect(dataset, len(class_names), workers)
        problems = dataset.skipped + problems
        published = dataset_class.published.get(split)
        if published not in (None, len(dataset)) and dataset_class.published_is_sure:
            problems.insert(0, f"{len(dataset)} images, published {published}")
        print(f"  {split}: {len(dataset)} images (published: {published or 'no number'})")
        for problem in problems[:SHOWN]:
            print(f"    {problem}")
        if len(problems) > SHOWN:
            print(f"    and {len(problems) - SHOWN} more")
        count, pixels = count + len(problems), pixels + found
    if pixels.any():
        shares = 100 * pixels / pixels.sum()
        columns = zip((*class_names, "(not scored)"), pixels, shares, strict=True)
        rows = [[class_name, str(number), f"{share:.3f}"] for class_name, number, share in columns]
        print(tables.text_table([["class", "pixels", "%"], *rows]))
    print(f"{name}: {'fine' if not count else f'NOT fine, {count} problems'}")
    return not count


def check_all(names: list[str], data_root: str | None, workers: int) -> bool:
    """Check the named datasets, or all whose root is there; return whether all is well."""
    logging.getLogger("robustnet").setLevel(logging.ERROR)  # what is left out is printed with the rest
    roots = config.Roots(data_root)
    results = []
    own_roots = [name for name in checkable() if not DATASETS[name].root_name]
    for name in names or own_roots:
        root = roots(DATASETS[name])
        if names or root.is_dir():
            results.append(check(name, root, workers))
        else:
            print(f"\n{name}: {root} is not there")
    if not results:
        print("\nno dataset is there")
    return bool(results) and all(results)


def checkable() -> list[str]:
    """Return the names of the datasets that have files."""
    return [name for name, dataset in DATASETS.items() if dataset.root_variable]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET|check")
    for name in (name for name, dataset in DATASETS.items() if dataset.download):
        command = commands.add_parser(name, help=f"arrange {name}")
        command.add_argument(
            "--src", type=Path, required=True, help="folder of the download, or one zip archive"
        )
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
    if unknown := sorted(set(args.names) - set(checkable())):
        raise UserError(f"unknown dataset {', '.join(unknown)}, choose from {', '.join(checkable())}")
    if not check_all(args.names, args.data_root, args.workers):
        raise SystemExit(1)


if __name__ == "__main__":
    with exit_cleanly():
        main()
