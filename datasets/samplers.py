"""Which process sees which images. `rank` and `world_size` default to those of torch.distributed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from utils import distributed
from utils.errors import UserError


class TrainSampler(Sampler[int]):
    """Equal, disjoint shards of a permutation that depends on (seed, epoch). The remainder is dropped.

    Loader workers fetch ahead, so the sampler cannot know what training has used: after each step, call
    `advance` with the number of indices that this process has trained on. `state_dict` is the same on all
    processes and may be loaded with another number of processes. Iteration then starts after the used
    indices. The length stays that of the whole epoch.
    """

    def __init__(self, length: int, *, seed: int = 0, rank: int | None = None, world_size: int | None = None):
        self.length, self.seed = length, seed
        self.rank = distributed.rank() if rank is None else rank
        self.world_size = world_size or distributed.world_size()
        self.epoch, self.position = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Start `epoch` at its beginning. The current epoch continues where it is."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def advance(self, count: int) -> None:
        """Record that each process has used `count` more indices."""
        self.position += count * self.world_size

    def steps_done(self, batch_size: int) -> int:
        """Return how many batches of this process have been used in this epoch."""
        return self.position // self.world_size // batch_size

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its indices that all processes together have used."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]

    def __len__(self) -> int:
        return self.length // self.world_size

    def order(self) -> np.ndarray:
        """Return the epoch's indices, of all processes."""
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.length)

    def __iter__(self) -> Iterator[int]:
        order = self.order()[self.position :]
        order = order[: len(order) // self.world_size * self.world_size]
        return iter(order[self.rank :: self.world_size].tolist())


class ImportanceSampler(TrainSampler):
    """Cycle through the classes; for each, draw an image that is the likelier the more of the class it has.

    `shares` (K, length) holds each image's part of all pixels of each class. An image is drawn with
    probability (1 - `uniform`) * share + uniform / length, so it may repeat in an epoch: image i comes as
    index i, i + images, i + 2 images, ... An epoch has `draws` indices, by default one per image. Classes in
    `uniform_classes` draw every image with the same probability. Other classes that do not occur in any image
    are left out.
    """

    def __init__(
        self,
        shares: np.ndarray,
        *,
        uniform: float = 0.25,
        uniform_classes: Sequence[int] = (),
        draws: int | None = None,
        **options: Any,
    ):
        self.images = shares.shape[1]
        super().__init__(draws or self.images, **options)
        shares = shares.copy()
        shares[list(uniform_classes)] = 1
        totals = shares.sum(1, keepdims=True)
        if not totals.any():
            raise UserError("no class occurs in any image, so images cannot be drawn by their classes")
        shares = (shares / np.where(totals, totals, 1))[totals[:, 0] > 0]
        self.cumulative = ((1 - uniform) * shares + uniform / self.images).cumsum(1)

    def order(self) -> np.ndarray:
        first = self.epoch * self.length
        classes = np.arange(first, first + self.length) % len(self.cumulative)
        draws = np.random.default_rng((self.seed, self.epoch)).random(self.length)
        found = [np.searchsorted(self.cumulative[c], x, "right") for c, x in zip(classes, draws, strict=True)]
        drawn = np.minimum(found, self.images - 1)  # the last sum may be rounded below 1
        times = np.zeros(self.images, int)
        for position, image in enumerate(drawn):
            drawn[position] += self.images * times[image]
            times[image] += 1
        return drawn


class EvalSampler(Sampler[int]):
    """Every one of `indices` exactly once over all processes; shards may differ in length by one."""

    def __init__(self, indices: Sequence[int], *, rank: int | None = None, world_size: int | None = None):
        first = distributed.rank() if rank is None else rank
        self.indices = list(indices)[first :: world_size or distributed.world_size()]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class StatisticsSampler(Sampler[int]):
    """At most `limit` images, drawn from (seed, trial) and divided among the processes."""

    def __init__(
        self,
        length: int,
        *,
        seed: int = 0,
        limit: int = 500,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        self.length, self.limit, self.seed, self.trial = length, limit, seed, 0
        self.rank = distributed.rank() if rank is None else rank
        self.world_size = world_size or distributed.world_size()

    def set_epoch(self, trial: int) -> None:
        """Draw the images of `trial`."""
        self.trial = trial

    def __len__(self) -> int:
        return len(range(self.rank, min(self.length, self.limit), self.world_size))

    def __iter__(self) -> Iterator[int]:
        drawn = np.random.default_rng((self.seed, self.trial)).permutation(self.length)[: self.limit]
        return iter(drawn[self.rank :: self.world_size].tolist())
