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
from typing import NamedTuple
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # also run as python scripts/prepare_data.py
import config
from datasets import DATASETS, NUM_CLASSES
from datasets.base import Sample, SegmentationDataset, files_below, found_in, sample_rng, without_label
from datasets.labels import TRAIN_ID_NAMES
from datasets.splits import read_split, split_names
from utils.evaluation import tables
from utils.logging import exit_cleanly

CITY = r"/[^/]+/[^/]+"
# What is wanted of a download: the end of a path in it -> the path below the root. {split} and {part} (2500
# images, as GTAV's archives have) follow from the number of the image.
RULES = {
    "cityscapes": (
        (
            rf"leftImg8bit/((train|val|test){CITY}_leftImg8bit\.png)",
            r"leftImg8bit_trainvaltest/leftImg8bit/\1",
        ),
        (rf"gtFine/((train|val|test){CITY}_gtFine_labelIds\.png)", r"gtFine_trainvaltest/gtFine/\1"),
        (rf"leftImg8bit/(train_extra{CITY}_leftImg8bit\.png)", r"leftImg8bit_trainextra/leftImg8bit/\1"),
        (rf"gtCoarse/(train_extra{CITY}_gtCoarse_labelIds\.png)", r"gtCoarse/gtCoarse/\1"),
        (
            rf"leftImg8bit_sequence/((train|val|test){CITY}_leftImg8bit\.png)",
            r"leftImg8bit_sequence_trainvaltest/leftImg8bit_sequence/\1",
        ),
    ),
    "gtav": ((r"(images|labels)/(?P<number>\d+)\.png", r"\1/{split}/{part}/\g<number>.png"),),
    "synthia": ((r"(RGB|GT/LABELS)/(?P<number>\d+)\.png", r"\1/{split}/\g<number>.png"),),
    "bdd100k": (
        (r"seg/(images/(train|val|test)/[^/]+\.jpg)", r"\1"),
        (r"seg/(labels/(train|val)/[^/]+_train_id\.png)", r"\1"),
        (r"(images/10k/(train|val|test)/[^/]+\.jpg)", r"\1"),
        (r"(labels/sem_seg/masks/(train|val)/[^/]+\.png)", r"\1"),
    ),
    "mapillary": (
        (r"((training|validation)/images/[^/]+\.jpg)", r"\1"),
        (r"(training|validation)/(?:v1\.2/)?labels/([^/]+\.png)", r"\1/labels/\2"),
    ),
    "camvid": ((r"((train|val|test)(annot)?/[^/]+\.png)", r"\1"),),
    "kitti": ((r"((training|testing)/(image_2|semantic)/\d+_10\.png)", r"\1"),),
}
OTHER_ARCHIVES = (".rar", ".tar", ".tar.gz", ".tgz", ".7z")
PUBLISHED = {  # images
    "cityscapes": {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998},
    "gtav": {"train": 12388, "val": 6382, "test": 6181},
    "synthia": {"train": 6580, "val": 2820},
    "bdd100k": {"train": 7000, "val": 1000},
    "mapillary": {"train": 18000, "val": 2000},
    "camvid": {"train": 367, "val": 101, "test": 233},
    "kitti": {"train": 179, "val": 21, "test": 200},
    "folder": {},
}
NEEDED = ("train", "val")  # splits; the others need not be there
SHOWN = 20  # problems of a split that are printed


class Source(NamedTuple):
    file: Path
    member: str | None  # of the archive `file`
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.member}" if self.member else str(self.file)


def list_sources(src: Path, dst: Path) -> list[Source]:
    """Return the files below the folder `src` (or in the archive `src`), those in zip archives last."""
    files = [src] if src.is_file() else files_below(src, "")
    found = [
        Source(file.absolute(), None, file.stat().st_size)
        for file in files
        if file.suffix.lower() != ".zip" and dst.absolute() not in file.absolute().parents
    ]
    for file in files:
        if file.suffix.lower() == ".zip":
            try:
                with ZipFile(file) as archive:
                    members = archive.infolist()
            except BadZipFile as error:
                raise ValueError(f"archive {file} cannot be read: {error}; download it again") from error
            found += [Source(file, info.filename, info.file_size) for info in members if not info.is_dir()]
    return found


def plan(name: str, sources: list[Source]) -> tuple[dict[str, Source], list[Source]]:
    """Return (path below the root -> source, sources of no published split); other files are not wanted."""
    lists = {entry.removeprefix(f"{name}_"): read_split(entry) for entry in split_names(name)}
    wanted, strange = {}, []
    for source in sources:
        path = f"/{source.member or source.file.as_posix()}"
        for pattern, template in RULES[name]:
            if match := re.search(f"/{pattern}$", path):
                target = match.expand(template)
                if "{split}" in target:
                    number = int(match["number"])
                    split = next((split for split, numbers in lists.items() if number in numbers), None)
                    if split in (None, "left_out"):
                        strange += [source] if split is None else []
                        break
                    folder = DATASETS[name].folders.get(split, split)
                    target = target.format(split=folder, part=f"{(number - 1) // 2500 + 1:02d}")
                wanted.setdefault(target, source)
                break
    return wanted, strange


def place(source: Source, target: Path, copy: bool) -> bool:
    """Link, copy or extract a file and return True; False if it was there. ValueError if another one is."""
    if target.exists():
        if target.stat().st_size != source.size:
            raise ValueError(
                f"{target} is there with {target.stat().st_size} bytes, but {source} has {source.size}; "
                "remove the wrong one"
            )
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        if source.member:
            with ZipFile(source.file) as archive, archive.open(source.member) as data:
                with temporary.open("xb") as file:
                    shutil.copyfileobj(data, file)
        elif copy:
            shutil.copyfile(source.file, temporary)
        else:
            temporary.symlink_to(source.file)
        os.replace(temporary, target)
    except BadZipFile as error:
        raise ValueError(f"archive member {source} cannot be read: {error}; download it again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def arrange(name: str, src: Path, dst: Path, copy: bool = False) -> None:
    """Place the wanted files of a download below `dst`; FileNotFoundError if there are none."""
    if not src.exists():
        raise FileNotFoundError(f"--src {src}: {found_in(src)}")
    sources = list_sources(src, dst)
    wanted, strange = plan(name, sources)
    if not wanted:
        packed = [str(s.file) for s in sources if not s.member and s.file.name.endswith(OTHER_ARCHIVES)]
        hint = f"; extract {', '.join(packed)} first" if packed else ""
        patterns = " or ".join(pattern for pattern, _ in RULES[name])
        raise FileNotFoundError(
            f"nothing of {name} in {src}: expected {patterns}; found: {found_in(src)}{hint}"
        )
    bar = tqdm(wanted.items(), name, unit="file")
    placed = sum(place(source, dst / target, copy) for target, source in bar)
    for source in strange[:SHOWN]:
        print(f"in no published split, not placed: {source}")
    print(
        f"{name}: {placed} files placed in {dst}, {len(wanted) - placed} were there; "
        f"{len(strange)} in no split, {len(sources) - len(wanted) - len(strange)} others not wanted\n"
        f"now run: python -m scripts.prepare_data check {name}"
    )


def unchanged(image, label, centroid, rng):
    """Return image and label as arrays (H, W, 3) and (H, W) or None; a transform."""
    return np.asarray(image), None if label is None else np.asarray(label)


def inspect(dataset, workers: int) -> tuple[list[str], np.ndarray]:
    """Read all files of a split; return what is wrong and the pixels (20,) of each class, unscored last."""

    def read(sample):
        try:
            label = dataset.load(sample, sample_rng(0))["label"]
        except (ValueError, FileNotFoundError) as error:
            return str(error), 0
        if sample.label is None:
            return None, 0
        return None, np.bincount(np.minimum(label, NUM_CLASSES).ravel(), minlength=NUM_CLASSES + 1)

    title = f"{dataset.name} {dataset.split}"
    with ThreadPoolExecutor(workers) as pool:
        results = tqdm(pool.map(read, dataset.samples), title, len(dataset), unit="image", leave=False)
        errors, pixels = zip(*results, strict=True)
    return [error for error in errors if error], sum(pixels, np.zeros(NUM_CLASSES + 1, np.int64))


def note(dataset: SegmentationDataset, samples: list[Sample]) -> None:
    """Leave out samples whose labels are not there, as a problem of the dataset."""
    dataset.skipped += map(without_label, samples)


def check(name: str, root: Path, workers: int) -> bool:
    """Print counts, problems, class shares and a verdict for one dataset; return whether all is well."""
    print(f"\n{name}: {root}")
    dataset_class, published = type(name, (DATASETS[name],), {"without_labels": note}), PUBLISHED[name]
    count, pixels = 0, np.zeros(NUM_CLASSES + 1, np.int64)
    for split in ("val",) if name == "folder" else dataset_class.splits:
        if split == "trainval":
            continue
        try:
            dataset = dataset_class(root, split, unchanged)
        except (ValueError, FileNotFoundError) as error:
            if split in NEEDED or not str(error).startswith(f"no {split} images"):
                print(f"  {split}: {error}")
                count += 1
            continue
        problems, found = inspect(dataset, workers)
        problems = dataset.skipped + problems
        if published.get(split, len(dataset)) != len(dataset):
            problems.insert(0, f"{len(dataset)} images, published {published[split]}")
        print(f"  {split}: {len(dataset)} images (published: {published.get(split, 'no number')})")
        for problem in problems[:SHOWN]:
            print(f"    {problem}")
        if len(problems) > SHOWN:
            print(f"    and {len(problems) - SHOWN} more")
        count, pixels = count + len(problems), pixels + found
    if pixels.any():
        shares = 100 * pixels / pixels.sum()
        rows = zip((*TRAIN_ID_NAMES, "(unscored)"), pixels, shares, strict=True)
        rows = [[class_name, str(n), f"{share:.3f}"] for class_name, n, share in rows]
        print(tables.text_table([["class", "pixels", "%"], *rows]))
    print(f"{name}: {'fine' if not count else f'NOT fine, {count} problems'}")
    return not count


def check_all(names: list[str], data_root: str | None, workers: int) -> bool:
    """Check the named datasets, or all whose root is there; return whether all is well."""
    logging.getLogger("robustnet").setLevel(logging.ERROR)  # what is left out is printed with the rest
    roots = config.dataset_roots(data_root)
    results = []
    for name in names or roots:
        if names or roots[name].is_dir():
            results.append(check(name, roots[name], workers))
        else:
            print(f"\n{name}: {roots[name]} is not there")
    if not results:
        print("\nno dataset is there")
    return bool(results) and all(results)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET|check")
    for name in RULES:
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
    if unknown := sorted(set(args.names) - set(PUBLISHED)):
        raise ValueError(f"unknown dataset {', '.join(unknown)}, choose from {', '.join(PUBLISHED)}")
    if not check_all(args.names, args.data_root, args.workers):
        raise SystemExit(1)


if __name__ == "__main__":
    with exit_cleanly():
        main()
