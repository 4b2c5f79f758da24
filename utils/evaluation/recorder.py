"""What is written for each predicted image: pictures, then the note that it is finished."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from utils import visualize
from utils.classes import IGNORE_LABEL, ClassTable
from utils.evaluation.progress import Progress

PICTURES = ("pred", "rgb", "compose", "diff")


def large_picture(folder: Path, kind: str, name: str) -> Path:
    """Return the file of one of PICTURES of image `name` in the `folder` of the large pictures."""
    suffix = {"pred": "", "rgb": "_color"}.get(kind, f"_{kind}")
    return folder / kind / f"{name}{suffix}.png"


class Predicted(NamedTuple):
    """An image and what was predicted. The label is on the CPU, the others may be on the device."""

    name: str
    image: Tensor  # (3, H, W), normalized
    label: Tensor  # (H, W) train ids, 255 where there is none
    pred: Tensor  # (H, W) train ids, uint8
    counts: Tensor  # (K, K) pixels by (truth, prediction)


@dataclass(frozen=True)
class Recorder:
    """Records the images of one dataset, from any thread."""

    dataset: str
    progress: Progress
    folder: Path  # of the large pictures
    kinds: Collection[str]  # those of PICTURES that are wanted
    classes: ClassTable
    image_in: bool  # whether images are normalized by their own mean and std

    def finish(self, done: Predicted) -> None:
        """Write an image's pictures, then note that it is finished."""
        done = done._replace(pred=done.pred.cpu())
        self.write_pictures(done)
        options = self.classes.colors, self.image_in
        picture = visualize.summary_picture(done.image, done.label, done.pred, *options)
        self.progress.add(done.name, done.counts.cpu(), picture)

    def write_pictures(self, done: Predicted) -> None:
        """Write pred/ (prediction ids), rgb/ (colours), compose/ (50% blend), diff/ (errors, if labelled)."""
        labelled = bool((done.label != IGNORE_LABEL).any())
        for kind in self.kinds:
            if kind != "diff" or labelled:
                path = large_picture(self.folder, kind, done.name)
                path.parent.mkdir(parents=True, exist_ok=True)  # names may contain slashes
                self.draw(kind, done).save(path)

    def draw(self, kind: str, done: Predicted) -> Image.Image:
        """Return one of PICTURES of an image."""
        if kind == "pred":
            return Image.fromarray(np.array(self.classes.ids, np.uint8)[done.pred.numpy()])
        if kind == "diff":
            return visualize.error_map(done.label, done.pred)
        colors = visualize.colorize(done.pred, self.classes.colors)
        if kind == "rgb":
            return colors.convert("RGB")
        return visualize.blend(visualize.denormalize(done.image, self.image_in), colors)
