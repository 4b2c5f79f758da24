"""Several source domains as one dataset, and how their samples become a batch.

A source is anything with `samples`, `load(sample, rng)` and `set_epoch(epoch)`. What an item becomes depends
on (seed, epoch, index of the item).
"""

from bisect import bisect

import numpy as np
from torch.utils.data import Dataset, default_collate

from datasets.base import sample_rng


class ConcatSources(Dataset):
    """The images of all sources one after the other: every image is equally likely."""

    def __init__(self, sources, *, seed: int = 0):
        self.sources, self.seed, self.epoch = list(sources), seed, 0
        self.starts = np.cumsum([0, *(len(source) for source in self.sources)]).tolist()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for source in self.sources:
            source.set_epoch(epoch)

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        number = bisect(self.starts, index) - 1
        source = self.sources[number]
        sample = source.samples[index - self.starts[number]]
        return source.load(sample, sample_rng(self.seed, self.epoch, index))


class OnePerDomain(Dataset):
    """Items of one image per source: every domain is equally likely.

    An epoch has the length of the longest source; the others start over, paired anew with each epoch.
    """

    def __init__(self, sources, *, seed: int = 0):
        self.sources, self.seed = list(sources), seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for source in self.sources:
            source.set_epoch(epoch)
        lengths = enumerate(map(len, self.sources))
        self.orders = [sample_rng(self.seed, epoch, i).permutation(length) for i, length in lengths]

    def __len__(self) -> int:
        return max(map(len, self.sources))

    def __getitem__(self, index: int) -> list[dict]:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        items = []
        for number, (source, order) in enumerate(zip(self.sources, self.orders, strict=True)):
            rng = sample_rng(self.seed, self.epoch, index, number)
            items.append(source.load(source.samples[order[index % len(order)]], rng))
        return items


def collate(items: list) -> dict:
    """Stack items, or lists of items, into a batch {"image": (B, 3, H, W), "label": (B, H, W), "name": list}.

    Lists are laid out one after the other, so that image b is of domain b % number of domains. Raises
    ValueError for images of different sizes.
    """
    if isinstance(items[0], list):
        items = [item for group in items for item in group]
    if len({item["image"].shape for item in items}) > 1:
        sizes = ", ".join("{} {}x{}".format(item["name"], *item["image"].shape[:0:-1]) for item in items)
        raise ValueError(f"images of one batch must have one size: {sizes}; use --bs_mult_val 1")
    return default_collate(items)
