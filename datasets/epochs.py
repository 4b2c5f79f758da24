"""Loader workers that live longer than an epoch."""

from typing import Any

import torch
from torch.utils.data import Dataset


class SharedEpoch(Dataset):
    """The dataset `dataset`, whose `set_epoch` also reaches the loader workers that already run.

    The number of the epoch is in shared memory. A worker compares it with its own before every item, because
    its copy of `dataset` is as old as the worker. All other attributes are those of `dataset`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.shared = torch.tensor(dataset.epoch).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Make the items those of `epoch`, in all processes that share this dataset."""
        self.shared.fill_(epoch)
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        epoch = int(self.shared)
        if epoch != self.dataset.epoch:
            self.dataset.set_epoch(epoch)
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # not yet there, while a worker unpickles this object
            raise AttributeError(name)
        return getattr(self.dataset, name)
