"""Where an evaluation keeps its files. It writes only below its folder and replaces only files of its own."""

import contextlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils import distributed
from utils.errors import UserError
from utils.evaluation import records
from utils.evaluation.progress import differences, picture_path
from utils.evaluation.records import SETTINGS
from utils.files import printable, remove_stale

REPORT = ("results.json", "results.csv", "images.csv", "results.md", "index.html")
PICTURES = ("pred", "rgb", "compose", "diff", "truth")
# Settings that decide what is written, not the mean IoU.
CHECKED_AGAIN = ("dump_images", "format", "calibration", "boundary_iou")


@dataclass(frozen=True)
class ResultFolder:
    """The folder of an evaluation of slice `index` of `count` of each of `datasets`."""

    path: Path
    split: str
    datasets: Sequence[str] = ()
    index: int = 0
    count: int = 1

    def progress(self, dataset: str, index: int | None = None) -> Path:
        """Return the folder of the finished images of a dataset's slice `index`, by default its own."""
        index = self.index if index is None else index
        part = f"_{index}_of_{self.count}" if self.count > 1 else ""
        return self.path / "records" / f"{dataset}_{self.split}{part}"

    def pictures(self, dataset: str) -> Path:
        """Return the folder of a dataset's large pictures; it has a shorter name for the only dataset."""
        return self.path / (self.split if len(self.datasets) == 1 else f"{dataset}_{self.split}")

    def slice_file(self, index: int | None = None) -> Path:
        """Return the file with the results of slice `index`, by default its own."""
        return self.path / f"results_{self.index if index is None else index}_of_{self.count}.json"

    def missing_slices(self) -> list[int]:
        """Return the slices that have no results yet."""
        return [index for index in range(self.count) if not self.slice_file(index).is_file()]

    def read_slices(self) -> list[dict[str, Any]]:
        """Return the results of all slices, as they were written; UserError for a damaged file."""
        results = []
        for index in range(self.count):
            try:
                results.append(json.loads(self.slice_file(index).read_text(encoding="utf-8")))
            except ValueError as error:
                raise UserError(f"{self.slice_file(index)} is damaged: evaluate this slice again") from error
        return results

    def check_writable(self) -> None:
        """Make the folder; UserError, naming it, if nothing can be written there."""
        probe = self.path / f".writable_{distributed.rank()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
            for folder in (self.path, *self.path.glob("records/*/")):
                remove_stale(folder)
        except OSError as error:
            raise UserError(f"results cannot be written to {self.path}: {error.strerror}") from error

    def remove_if_empty(self) -> None:
        """Remove the folder if nothing was written to it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def prepare(
        self,
        settings: Mapping[str, Any],
        names: Mapping[str, Sequence[str]],
        kinds: Mapping[str, Collection[str]],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        """Make room for an evaluation with `settings` of the images `names`, by dataset.

        `kinds` are those of PICTURES that will be written. Files of an earlier evaluation with the same
        settings are removed, except for what is finished if it is to be resumed. UserError if the folder
        holds an evaluation with other settings, unless that is to be overwritten, and for a file of another
        program in the way.
        """
        other = self._other_evaluation(settings)
        if other and not overwrite:
            raise UserError(
                f"{self.path} holds an evaluation with {other}; name another folder with --exp_name, or "
                "replace the earlier one with --overwrite and without --resume"
            )
        earlier = self._earlier()
        ours = set().union(*earlier.values())
        reports = [self.path / name for name in (*REPORT, self.slice_file().name)]
        if not earlier and not self._results():
            self._refuse([path for path in reports if path.exists()])
        for dataset in self.datasets:
            folder = self.progress(dataset)
            check_inside(self.path, folder)
            if folder not in earlier and folder.is_dir():
                self._refuse([path for path in folder.iterdir() if not path.name.startswith(".")])
            files = {
                picture_file(self.pictures(dataset), kind, name): name
                for kind in kinds[dataset]
                for name in names[dataset]
            }
            for parent in {path.parent for path in files}:
                check_inside(self.path, parent)
            self._refuse([path for path, name in files.items() if name not in ours and os.path.lexists(path)])
        self._clear(names, resume=resume, everything=overwrite)

    def _other_evaluation(self, settings: Mapping[str, Any]) -> str:
        """Say how an evaluation in this folder differs; empty if there is none, or with the same settings."""
        own = {self.progress(dataset, index) for dataset in self.datasets for index in range(self.count)}
        wanted = _scores(settings)
        for folder in self._earlier():
            earlier, _ = records.read_settings(folder)
            if folder not in own:
                return f"{folder.name}, which is not part of this one"
            if earlier and (different := differences(_scores(earlier), wanted)):
                return different
        if (results := self._results()) and not self._earlier():
            protocol = {key: value for key, value in results["protocol"].items() if key != "slice"}
            protocol |= {"snapshot_sha256": results["snapshot_sha256"], "datasets": list(results["metrics"])}
            return differences(protocol, wanted | {"datasets": list(self.datasets)})
        return ""

    def _earlier(self) -> dict[Path, set[str]]:
        """Return the folders of earlier records and the names of their images."""
        folders = [path.parent for path in sorted(self.path.glob(f"records/*/{SETTINGS}"))]
        return {folder: records.read_names(folder) for folder in folders}

    def _refuse(self, paths: Sequence[Path]) -> None:
        """Raise UserError if there are any `paths`, which are in the way."""
        if paths:
            raise UserError(
                f"{printable(paths[0])} was not written by eval.py and is not replaced; name another folder "
                "with --exp_name"
            )

    def _results(self) -> dict[str, Any]:
        """Return results.json if this program wrote it, otherwise nothing."""
        try:
            results = json.loads((self.path / REPORT[0]).read_text(encoding="utf-8"))
            return results if {"metrics", "protocol", "snapshot_sha256"} <= set(results) else {}
        except (OSError, ValueError, TypeError):
            return {}

    def _clear(self, names: Mapping[str, Sequence[str]], *, resume: bool, everything: bool) -> None:
        """Remove reports, and pictures and records of earlier evaluations, unless they are resumed."""
        for name in (*REPORT, self.slice_file().name):
            (self.path / name).unlink(missing_ok=True)
        if everything:
            for path in self.path.glob("results_*_of_*.json"):
                path.unlink()
        own = {self.progress(dataset): dataset for dataset in self.datasets}
        for folder, previous in self._earlier().items():
            if folder not in own and not everything:
                continue
            keeps = resume and folder in own
            self._remove_pictures(folder, previous - set(names[own[folder]]) if keeps else previous)
            if not keeps:
                for path in [*folder.glob("*.jsonl"), folder / records.IMAGES, folder / SETTINGS]:
                    path.unlink(missing_ok=True)
                _remove_empty(folder)

    def _remove_pictures(self, folder: Path, names: Collection[str]) -> None:
        """Remove the pictures of images of the records in `folder`."""
        settings, _ = records.read_settings(folder)
        split = (settings or {}).get("split", self.split)
        tops = {self.path / split, self.path / re.sub(r"_\d+_of_\d+$", "", folder.name)}
        for name in names:
            files = [picture_file(top, kind, name) for top in tops for kind in PICTURES]
            for path in [picture_path(folder, name), *files]:
                if path.exists() and path.parent.resolve().is_relative_to(self.path.resolve()):
                    path.unlink()
        if names:
            for top in tops:
                _remove_empty(top)


def picture_file(folder: Path, kind: str, name: str) -> Path:
    """Return the file of an image's large picture of one of PICTURES; `name` is a safe name."""
    suffix = {"pred": "", "rgb": "_color"}.get(kind, f"_{kind}")
    return folder / kind / f"{name}{suffix}.png"


def check_inside(root: Path, folder: Path) -> None:
    """Raise UserError if links lead from `folder`, which is below `root`, out of it."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{folder} leads out of {root} by a link, so it is not written; remove the link")


def _scores(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in CHECKED_AGAIN}


def _remove_empty(folder: Path) -> None:
    """Remove the empty folders below `folder`, and `folder` if nothing is left in it."""
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
