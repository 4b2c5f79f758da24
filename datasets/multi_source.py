"""Several source domains as one dataset, and how their samples become a batch."""

from bisect import bisect
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from datasets.base import sample_rng
from datasets.readable import collate_reasons
from datasets.wrapper import LabelledSource
from utils.errors import UserError


class SeveralSources(Dataset):
    """A dataset of several sources. What an item is depends only on (seed, epoch, index of the item)."""

    def __init__(self, sources: Iterable[LabelledSource], *, seed: int = 0):
        self.sources, self.seed, self.epoch = list(sources), seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Make the items those of `epoch`."""
        self.epoch = epoch
        for source in self.sources:
            source.set_epoch(epoch)


class ConcatSources(SeveralSources):
    """The images of all sources one after the other. Every image is equally likely."""

    def __init__(self, sources: Iterable[LabelledSource], *, seed: int = 0):
        super().__init__(sources, seed=seed)
        self.starts = np.cumsum([0, *(len(source) for source in self.sources)]).tolist()

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        number = bisect(self.starts, index) - 1
        source = self.sources[number]
        sample = source.samples[index - self.starts[number]]
        return source.load(sample, sample_rng(self.seed, self.epoch, index))


class OnePerDomain(SeveralSources):
    """Items of one image from each source. Every domain is equally likely.

    An epoch has the length of the smallest source. Each image is drawn uniformly from its source, with
    replacement, as in the published code.
    """

    def __len__(self) -> int:
        return min(map(len, self.sources))

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        items = []
        for number, source in enumerate(self.sources):
            rng = sample_rng(self.seed, self.epoch, index, number)
            items.append(source.load(source.samples[rng.integers(len(source))], rng))
        return items


def collate(items: list) -> dict[str, Any]:
    """Stack items, or lists of items, into a batch {"image": (B, 3, H, W), "label": (B, H, W), "name": list}.

    Lists are joined one after the other, so that image b is of domain b % number of domains. Raises UserError
    for images of different sizes. Reasons of `Replacing` come as {"unreadable": list}.
    """
    if isinstance(items[0], list):
        items = [item for group in items for item in group]
    if len({item["image"].shape for item in items}) > 1:
        sizes = ", ".join("{} {}x{}".format(item["name"], *item["image"].shape[:0:-1]) for item in items)
        raise UserError(f"images of one batch must have one size: {sizes}; use --bs_mult_val 1")
    return collate_reasons(items)
