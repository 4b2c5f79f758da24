"""Which files a run trains on, so that a continued run notices other ones."""

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from utils import distributed
from utils.errors import UserError, few

logger = logging.getLogger("robustnet")

THREADS = 8  # that ask for sizes, which takes long on a network's disk
MISSING = -1  # the size of a file that is not there


class Inventory(NamedTuple):
    """The images of a dataset in their order. Folders and times of files do not count, so copies are equal.

    `sizes` (images, 2), int64, has the bytes of each image and of its label, 0 where there is none.
    """

    names: Sequence[str]
    sizes: Tensor

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint holds: a hash of the names, and the sizes."""
        names = "\n".join(self.names).encode(errors="surrogatepass")
        return {"names": hashlib.sha256(names).hexdigest(), "sizes": self.sizes}


def inventories(datasets: Iterable[Any]) -> dict[str, Inventory]:
    """Return the inventory of each of `datasets` (datasets.listing.ListedDataset) by its name.

    It is empty on processes other than the main one.
    """
    return {dataset.name: _inventory(dataset) for dataset in datasets if distributed.is_main()}


def _inventory(dataset: Any) -> Inventory:
    files = [file for sample in dataset.samples for file in (sample.image, sample.label)]
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = torch.tensor(list(pool.map(_size, files)), dtype=torch.int64)
    return Inventory([dataset.name_of(sample) for sample in dataset.samples], sizes.view(-1, 2))


def _size(path: Path | None) -> int:
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return MISSING


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Inventory]) -> list[str]:
    """Say for each dataset how its files differ from what was recorded before; empty if none does.

    Datasets that are only in one of the two are left out.
    """
    texts = []
    for name in sorted(before.keys() & now.keys()):
        old, new, images = before[name]["sizes"], now[name].sizes, now[name].names
        if before[name]["names"] != now[name].record()["names"]:
            count = f"{len(images)}, not {len(old)}" if len(images) != len(old) else "of other names"
            texts.append(f"the training images of {name} are others ({count})")
        elif not torch.equal(old, new):
            changed = (old != new).any(1).nonzero().flatten().tolist()
            found = few([images[place] for place in changed], 5)
            texts.append(f"{len(changed)} training images of {name} have files of other sizes: {found}")
    return texts


def check(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Inventory], strict: bool) -> None:
    """Warn of data that are not those of the checkpoint; all processes call this. UserError if `strict`."""
    texts = distributed.from_first_rank(lambda: differences(before, now))
    if texts and strict:
        raise UserError(f"{'; '.join(texts)}: not the data of the checkpoint, which --strict_data asks for")
    for text in texts:
        logger.warning("%s: not the data of the checkpoint; the run goes on with them", text)
