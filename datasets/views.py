"""Several views of one image."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from datasets.base import SegmentationDataset, sample_rng
from datasets.listing import Sample
from datasets.wrapper import DatasetWrapper
from transforms.presets import TargetPreset
from utils.errors import UserError


class PhotometricPairs(DatasetWrapper):
    """Pairs for the whitening statistics: whole images of `base`, whose transform is `presets.statistics`.

    An item is {"image": the original, "view": the same image in other colours and blurred, "name": str}, both
    images float32 (3, H, W). Labels are not read. The number of the statistics trial serves as the epoch.

    With a preset that leaves the augmentation to the device, "image" is uint8 and "photometric" says what
    makes the view. `pair` makes both from a batch. Unless `strict`, the item of an image that cannot be read
    is {"unreadable": reason}.
    """

    base: SegmentationDataset

    def __init__(self, base: SegmentationDataset, strict: bool = True):
        super().__init__(base)
        self.strict = strict

    def load(self, sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
        """Return the pair of `sample`."""
        try:
            item = self.base.load(sample._replace(label=None), rng)
        except UserError as error:
            if self.strict:
                raise
            return {"unreadable": str(error)}
        if "photometric" in item:
            return {key: item[key] for key in ("image", "photometric", "name")}
        view, original = item["image"]
        return {"image": original, "view": view, "name": item["name"]}

    def pair(self, batch: dict[str, Any], device: torch.device) -> Tensor:
        """Return all views, then all originals of a batch, float32 (2B, 3, H, W), on `device`."""
        image = batch["image"].to(device, non_blocking=True)
        if "photometric" not in batch:
            return torch.cat([batch["view"].to(device, non_blocking=True), image])
        preset: Any = self.base.transform
        return torch.cat([preset.photometric(image, batch["photometric"]), preset.photometric(image)])


class TargetViews(DatasetWrapper):
    """Groups of views of one unlabelled image, for self-training by augmentation consistency (DA-SAC).

    Only the images of `base` are read. `preset` is presets.target_views. An item is {"student": noisy views,
    "teacher": the same without noise, both float32 (V, 3, H, W), "matrix": from the reference, which is the
    image that all views share, to each view, "inverse": back, both float32 (V, 2, 3) as in
    transforms/similarity.py, "valid": bool (V, H, W), False outside the reference, "name": str}.

    A view depends only on (seed, epoch, index) and its number among the V = `views` views. Index i + n * len
    gives other views of image i (see ImportanceSampler). Processes may divide a group among them: `part`
    (i, n) makes the i-th of n equal parts of the views.
    """

    base: SegmentationDataset

    def __init__(
        self, base: SegmentationDataset, preset: TargetPreset, views: int = 4, part: tuple[int, int] = (0, 1)
    ):
        super().__init__(base)
        number, parts = part
        if views % parts:
            raise UserError(f"{views} views cannot be divided among {parts} processes")
        self.preset = preset
        self.numbers = range(number * views // parts, (number + 1) * views // parts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key = self.seed, self.epoch, index
        sample = self.samples[index % len(self)]
        image = self.base.open_image(sample.image)
        reference = self.preset.reference(image, sample_rng(*key))
        views = [self.preset.view(reference, number, sample_rng(*key, 1 + number)) for number in self.numbers]
        return {**default_collate(views), "name": self.base.name_of(sample)}


class TargetCrops(DatasetWrapper):
    """Unlabelled images with the source's augmentation, by which batch norm adapts (ABN).

    `base` has the training transform and no labels. An item is {"teacher": float32 (1, 3, H, W), "name":
    str}. Index i + n * len gives another crop of image i (see ImportanceSampler).
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.load(self.samples[index % len(self)], sample_rng(self.seed, self.epoch, index))
        return {"teacher": item["image"][None], "name": item["name"]}
