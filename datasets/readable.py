"""Validation data of which some images cannot be read, or whose images differ in size."""

from typing import Any

from torch.utils.data import Dataset, default_collate

from datasets.base import SegmentationDataset
from utils.errors import UserError


class Tolerant(Dataset):
    """The dataset `base`, whose item is {"unreadable": reason} where an image or a label cannot be read.

    The reason names the file.
    """

    def __init__(self, base: SegmentationDataset):
        self.base, self.occurring = base, base.occurring

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.base[index]
        except UserError as error:
            return {"unreadable": str(error)}
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
                raise
            name = self.base.name_of(self.base.samples[index])
            return {"unreadable": f"image {name} is too large for the memory"}


def collate_by_size(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch {"image": (B, 3, H, W), "label": (B, H, W), "name": list}.

    Images of several sizes become {"batches": one batch for each size}. The items that could not be read are
    in {"unreadable": list of reasons}, which is one of the batches if there are others.
    """
    reasons = [item["unreadable"] for item in items if "unreadable" in item]
    sizes: dict[Any, list] = {}
    for item in items:
        if "unreadable" not in item:
            sizes.setdefault(item["image"].shape, []).append(item)
    batches = [default_collate(group) for group in sizes.values()]
    if reasons:
        batches.append({"unreadable": reasons})
    return batches[0] if len(batches) == 1 else {"batches": batches}
