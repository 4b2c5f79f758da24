"""What is written for each predicted image: pictures, then the note that it is finished."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from utils import visualize
from utils.classes import ClassTable
from utils.evaluation.counts import Counts
from utils.evaluation.folder import check_inside, picture_file
from utils.evaluation.progress import Progress
from utils.files import naming_full_disk


class Predicted(NamedTuple):
    """An image and what was predicted. The label is on the CPU, the others may be on the device."""

    name: str  # a safe name
    image: Tensor  # (3, H, W), normalized or uint8
    label: Tensor  # (H, W) train ids, 255 where there is none
    pred: Tensor  # (H, W) train ids, uint8
    counts: Counts


@dataclass(frozen=True)
class Pictures:
    """Draws the large pictures of one dataset."""

    root: Path  # of everything that is written
    folder: Path
    kinds: Collection[str]  # those of PICTURES that are wanted
    classes: ClassTable
    image_in: bool  # whether images are normalized by their own mean and std

    def files(self, name: str, counts: Counts) -> dict[str, Path]:
        """Return the files of an image by kind; diff/ and truth/ have none for an image without labels."""
        kinds = [kind for kind in self.kinds if kind not in ("diff", "truth") or counts.confusion.any()]
        return {kind: picture_file(self.folder, kind, name) for kind in kinds}

    def write(self, done: Predicted) -> None:
        """Write pred/ (ids), rgb/ (colours), compose/ (50% blend); if labelled, diff/ (errors) and truth/."""
        for kind, path in self.files(done.name, done.counts).items():
            with naming_full_disk(path):
                path.parent.mkdir(parents=True, exist_ok=True)  # names may contain slashes
                check_inside(self.root, path.parent)
                path.unlink(missing_ok=True)  # it may be a link to another file
                self.draw(kind, done).save(path)

    def draw(self, kind: str, done: Predicted) -> Image.Image:
        """Return one of PICTURES of an image."""
        if kind == "pred":
            return Image.fromarray(np.array(self.classes.ids, np.uint8)[done.pred.numpy()])
        if kind == "diff":
            return visualize.error_map(done.label, done.pred)
        shown = done.label if kind == "truth" else done.pred
        colors = visualize.colorize(shown, self.classes.colors)
        if kind in ("rgb", "truth"):
            return colors.convert("RGB")
        return visualize.blend(visualize.denormalize(done.image, self.image_in), colors)


@dataclass(frozen=True)
class Recorder:
    """Records the images of one dataset, from any thread."""

    dataset: str
    progress: Progress
    pictures: Pictures

    def finish(self, done: Predicted) -> None:
        """Write an image's pictures, then note that it is finished."""
        done = done._replace(pred=done.pred.cpu(), counts=done.counts.cpu())
        self.pictures.write(done)
        options = self.pictures.classes.colors, self.pictures.image_in
        picture = visualize.summary_picture(done.image, done.label, done.pred, *options)
        self.progress.add(done.name, done.counts, picture)
