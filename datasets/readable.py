"""Data to score, of which some images cannot be read."""

from typing import Any

from torch.utils.data import Dataset

from datasets.base import SegmentationDataset
from utils.errors import UserError


class Tolerant(Dataset):
    """The dataset `base`, whose item is {"unreadable": reason} where an image or a label cannot be read.

    The reason names the file.
    """

    def __init__(self, base: SegmentationDataset):
        self.base = base

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
