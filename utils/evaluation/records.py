"""The lines that say which images are finished. Each has a checksum, so that a damaged one is noticed.

A file of lines may be damaged or cut off anywhere; a line is read whole and right, or not at all.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils.evaluation.counts import Counts
from utils.files import safe_name, write_text

SETTINGS, IMAGES = "settings.json", "images.txt"
FORMAT = 2  # of settings and lines; those of 1 had no checksum, and lines no fingerprint of the data
# What broken lines raise when they are read.
BROKEN = ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError


class Finished(NamedTuple):
    """What is known of a finished image."""

    counts: Counts
    data: str  # fingerprint of the image and its label; "" where the line does not say


def sealed(content: Mapping[str, Any]) -> str:
    """Return JSON of one line with the checksum of `content`."""
    return json.dumps({**content, "checksum": _checksum(content)})


def unsealed(line: str) -> dict[str, Any]:
    """Return the content that `sealed` wrote, without the checksum. Raises one of BROKEN."""
    content = json.loads(line)
    if content.pop("checksum") != _checksum(content):
        raise ValueError("the checksum does not fit")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def digest(settings: Mapping[str, Any]) -> str:
    """Return what a line says of the settings that it was written under."""
    return _checksum(dict(sorted(settings.items())))


def line_of(name: str, finished: Finished, settings: str = "") -> str:
    """Write an image's counts as a line. Of the confusion matrix it lists the cells that are not 0.

    `settings` is the digest of those of the evaluation that writes it: another one that was started in the
    same folder may have replaced the folder's settings meanwhile.
    """
    confusion, calibration, boundary = finished.counts
    flat = confusion.flatten()
    cells = flat.nonzero().flatten()
    line = {"name": name, "data": finished.data, "settings": settings, "classes": len(confusion)}
    line |= {"cells": cells.tolist(), "counts": flat[cells].tolist()}
    others = {"calibration": calibration, "boundary": boundary}
    line |= {key: part.tolist() for key, part in others.items() if part is not None}
    return sealed(line) + "\n"


def finished_images(folder: Path, lines_format: int = FORMAT) -> tuple[dict[str, Finished], int]:
    """Return the images that are finished in `folder`, by safe name, and the number of damaged lines.

    Lines of an evaluation with other settings than the folder's count as damaged.
    """
    images, damaged = {}, 0
    settings, _ = read_settings(folder)
    accepted = "", digest(settings or {})
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().decode(errors="replace").split("\n")[:-1]:
            try:
                content = json.loads(line) if lines_format == 1 else unsealed(line)
                if settings is not None and content.get("settings", "") not in accepted:
                    raise ValueError("of another evaluation")
                images[safe_name(_text(content["name"]))] = _finished(content)
            except BROKEN:
                damaged += 1
    return images, damaged


def _finished(content: Mapping[str, Any]) -> Finished:
    counts, cells = torch.tensor(content["counts"], dtype=torch.int64), content["cells"]
    flat = torch.zeros(content["classes"] ** 2, dtype=torch.int64)
    if len(counts) != len(cells) or (counts < 0).any() or any(cell < 0 for cell in cells):
        raise ValueError("counts and cells do not fit together")
    flat[cells] = counts
    confusion = flat.view(content["classes"], -1)
    calibration, boundary = _table(content, "calibration", 3), _table(content, "boundary", 2)
    return Finished(Counts(confusion, calibration, boundary), _text(content.get("data", "")))


def _table(content: Mapping[str, Any], key: str, rows: int) -> Tensor | None:
    if key not in content:
        return None
    table = torch.tensor(content[key], dtype=torch.int64)
    if table.dim() != 2 or len(table) != rows or (table < 0).any():
        raise ValueError(f"{key} has not {rows} rows of counts")
    return table


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings that all lines in `folder` share."""
    write_text(folder / SETTINGS, sealed({**settings, "format": FORMAT}))


def read_settings(folder: Path) -> tuple[dict[str, Any] | None, int]:
    """Return the settings in `folder`, as JSON has them, and the format of its lines.

    The settings are None if they are damaged, and empty if there are none.
    """
    try:
        text = (folder / SETTINGS).read_text(encoding="utf-8", errors="replace")
        content = json.loads(text)
        if "checksum" not in content and "format" not in content:
            return content, 1
        content = unsealed(text)
        return content, content.pop("format")
    except FileNotFoundError:
        return {}, FORMAT
    except BROKEN:
        return None, FORMAT


def write_names(folder: Path, names: Iterable[str]) -> None:
    """Write the safe names of all images that are evaluated into `folder`: their files are ours."""
    write_text(folder / IMAGES, "".join(f"{name}\n" for name in names))


def read_names(folder: Path) -> set[str]:
    """Return the names of the images whose files `folder`'s evaluation may have written."""
    _, lines_format = read_settings(folder)
    known = set(finished_images(folder, lines_format)[0])
    if (folder / IMAGES).is_file():
        known |= set((folder / IMAGES).read_text(encoding="utf-8", errors="replace").split("\n")[:-1])
    return known
