"""Data of which some images cannot be read, or whose images differ in size.

Training replaces such images. Validation, evaluation and the statistics leave them out.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, default_collate

from datasets.base import SegmentationDataset, sample_rng
from datasets.epochs import SharedEpoch
from utils.errors import UserError

TRIES = 20  # images in a row that cannot be read, after which the data are not there
REPLACED = 2**31  # in the key of the random numbers that choose another image; no view has this number


class Replacing(SharedEpoch):
    """A SharedEpoch whose items that cannot be read are replaced by others of the same epoch.

    Such an item has the reasons as {"unreadable": list}; of a list of items, the first one has them. Which
    item takes the place depends only on (seed, epoch, index), so it is the same on all processes and in a
    continued run, and all processes have as many batches as without damage. Raises UserError after TRIES.
    """

    def __getitem__(self, index: int) -> Any:
        reasons: list[str] = []
        rng = sample_rng(self.seed, int(self.shared), index, REPLACED)
        while len(reasons) < TRIES:
            try:
                item = super().__getitem__(index)
            except UserError as error:
                reasons.append(str(error))
                index = int(rng.integers(len(self)))
                continue
            if reasons:
                (item[0] if isinstance(item, list) else item)["unreadable"] = reasons
            return item
        raise UserError(f"{TRIES} training images in a row cannot be used; the last one: {reasons[-1]}")


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


def collate_reasons(
    items: list[dict[str, Any]], collate: Callable[[list], dict[str, Any]] = default_collate
) -> dict[str, Any]:
    """Collate items; the batch has all their reasons as {"unreadable": list}, if there are any."""
    reasons = [reason for item in items for reason in item.pop("unreadable", ())]
    batch = collate(items)
    return batch | {"unreadable": reasons} if reasons else batch


def collate_one(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the batch of one item without a copy of its tensors, which may be large."""
    (item,) = items
    return {key: value[None] if isinstance(value, Tensor) else [value] for key, value in item.items()}


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
