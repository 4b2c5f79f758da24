"""Which files are below a folder, and which of them are no data."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError, few
from utils.files import printable

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pnm", ".pbm", ".gif"),
)
OTHER_IMAGES = (
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".dng",
    ".raw",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".psd",
    ".svg",
)
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
PICTURES = {"pred", "rgb", "compose", "diff", "truth"}  # folders that eval.py writes
OWN = ".cache"  # class centroids
UNREADABLE = "images of a kind that is not read; convert them to PNG"


class Found(NamedTuple):
    files: list[Path]  # sorted
    left_out: dict[str, list[Path]]  # reason -> files and folders


def walk(folder: Path, *, deep: bool = True, once: bool = False) -> Found:
    """Return the files below `folder` and what is left out: hidden and system files, results of eval.py.

    With `deep` at any depth, otherwise directly in the folder. Links are followed, but not those to a folder
    above them; with `once`, also not those to a file or folder that is listed without the link. A link to
    nothing is listed, so that reading it says so. A folder that does not exist has no files. Raises UserError
    for a folder that cannot be read.
    """
    files: list[Path] = []
    left_out: dict[str, list[Path]] = defaultdict(list)
    links: list[tuple[Path, frozenset[str]]] = []
    seen: set[str] = set()  # real paths of folders, and of files with `once`

    def enter(parent: Path, above: frozenset[str]) -> None:
        real = os.path.realpath(parent)
        if real in above or (once and real in seen):
            left_out["links to folders that are listed already"].append(parent)
            return
        seen.add(real)
        try:
            entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"folder {printable(parent)} cannot be read: {error.strerror}") from error
        results = result_folders(parent) if any(entry.name == "records" for entry in entries) else set()
        for entry in entries:
            path = parent / entry.name
            if entry.name == OWN:
                continue
            if entry.name[0] == "." or entry.name in SYSTEM_FOLDERS:
                left_out["hidden"].append(path)
            elif entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(path)):
                if entry.name in results:
                    left_out["results of eval.py"].append(path)
                elif deep and once and entry.is_symlink():
                    links.append((path, above | {real}))
                elif deep:
                    enter(path, above | {real})
            elif is_file(entry):
                files.append(path)
            else:
                left_out["neither files nor folders"].append(path)

    if folder.is_dir():
        enter(folder, frozenset())
    while links:
        enter(*links.pop(0))
    return Found(without_copies(files, left_out) if once else sorted(files), dict(left_out))


def is_file(entry: os.DirEntry) -> bool:
    """Return whether an entry is a file, or a link to one or to nothing."""
    return entry.is_file(follow_symlinks=False) or (
        entry.is_symlink() and (os.path.isfile(entry.path) or not os.path.exists(entry.path))
    )


def without_copies(files: list[Path], left_out: dict[str, list[Path]]) -> list[Path]:
    """Return `files`, sorted, without links to others of them, which are added to `left_out`."""
    kept: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (path.is_symlink(), path)):
        if kept.setdefault(os.path.realpath(path), path) is not path:
            left_out["links to files that are listed already"].append(path)
    return sorted(kept.values())


def result_folders(folder: Path) -> set[str]:
    """Return the names of the folders in `folder` that hold records and pictures of eval.py.

    The pictures of the records DATASET_SPLIT are in DATASET_SPLIT or SPLIT.
    """
    records = [file.parent.name for file in folder.glob("records/*/settings.json")]
    if not records:
        return set()
    with os.scandir(folder) as entries:
        folders = [entry.name for entry in entries if os.path.isdir(entry.path)]  # False for a link to itself
    return {
        name
        for name in folders
        if name == "records"
        or any(record == name or record.endswith(f"_{name}") for record in records)
        and (inside := set(os.listdir(folder / name)))
        and inside <= PICTURES
    }


def images_of(files: Sequence[Path]) -> tuple[list[Path], dict[str, list[Path]]]:
    """Return the image files among `files`, by their suffixes, and the others by reason."""
    images, others = [], defaultdict(list)
    for path in files:
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        else:
            others[UNREADABLE if suffix in OTHER_IMAGES else "no images"].append(path)
    return images, dict(others)


def stem_of(name: str, suffix: str) -> str | None:
    """Return a file's name without a layout's suffix; None if it does not end in it.

    The extension at the end of the suffix may be in any case, and that of any other image: "a.JPG", "a.jpeg"
    and "a.png" all are "a" with the suffix ".jpg".
    """
    if name.endswith(suffix):
        return name.removesuffix(suffix)
    end, extension = os.path.splitext(f"x{suffix}")
    end, (stem, given) = end[1:], os.path.splitext(name)
    if {extension.lower(), given.lower()} <= set(IMAGE_SUFFIXES) and stem.endswith(end):
        return stem.removesuffix(end)
    return None


def described(left_out: Mapping[str, Sequence[Path]], folder: Path) -> str:
    """Say in one line what is left out of `folder` and why; empty for nothing."""
    parts = []
    for reason, paths in left_out.items():
        names = [printable(os.path.relpath(path, folder)) for path in paths]
        parts.append(f"{len(names)} {reason} ({few(names, 3)})")
    return "; ".join(parts)


def found_in(folder: Path) -> str:
    """Describe in a few words what is in `folder`, or in its nearest parent that exists."""
    if not folder.exists():
        return f"{printable(folder.name)} does not exist, {found_in(folder.parent)}"
    entries = sorted(printable(entry.name) for entry in folder.iterdir()) if folder.is_dir() else []
    more = f", ... ({len(entries)} entries)" if len(entries) > 5 else ""
    return f"{printable(folder)} holds {', '.join(entries[:5]) or 'nothing'}{more}"
