"""Which files a run reads, so that a continued run and other processes notice other ones."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from utils import distributed
from utils.errors import UserError, few

logger = logging.getLogger("robustnet")


@dataclass(frozen=True, eq=False)
class Inventory:
    """The images of a dataset in their order. Folders and times of files do not count, so copies are equal.

    `sizes` (images, 2), int64, has the bytes of each image and of its label, 0 where there is none.
    """

    names: Sequence[str]
    sizes: Tensor

    @cached_property
    def digest(self) -> str:
        """A hash of the names."""
        names = "\n".join(self.names).encode(errors="surrogatepass")
        return hashlib.sha256(names).hexdigest()

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint holds: a hash of the names, and the sizes."""
        return {"names": self.digest, "sizes": self.sizes}


def inventory(dataset: Any) -> Inventory:
    """Return the inventory of a datasets.listing.ListedDataset."""
    versions = dataset.versions
    files = [file for sample in dataset.samples for file in (sample.image, sample.label)]
    sizes = torch.tensor([versions[file].size if file else 0 for file in files], dtype=torch.int64)
    return Inventory([dataset.name_of(sample) for sample in dataset.samples], sizes.view(-1, 2))


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Inventory]) -> list[str]:
    """Say for each dataset how its files differ from what was recorded before; empty if none does.

    Datasets that are only in one of the two are left out.
    """
    texts = []
    for name in sorted(before.keys() & now.keys()):
        old, new, images = before[name]["sizes"], now[name].sizes, now[name].names
        if before[name]["names"] != now[name].digest:
            count = f"{len(images)}, not {len(old)}" if len(images) != len(old) else "of other names"
            texts.append(f"the images of {name} are others ({count})")
        elif not torch.equal(old, new):
            changed = (old != new).any(1).nonzero().flatten().tolist()
            found = few([images[place] for place in changed], 5)
            texts.append(f"{len(changed)} images of {name} have files of other sizes: {found}")
    return texts


def check(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Inventory], strict: bool) -> None:
    """Warn of data that are not those of the checkpoint; all processes call this. UserError if `strict`."""
    texts = distributed.from_first_rank(lambda: differences(before, now))
    if texts and strict:
        raise UserError(f"{'; '.join(texts)}: not the data of the checkpoint, which --strict_data asks for")
    for text in texts:
        logger.warning("%s: not the data of the checkpoint; the run goes on with them", text)


def check_alike(files: Mapping[str, Inventory], strict: bool) -> None:
    """Compare the files of all processes, which may be on several machines; all processes call this.

    Raises UserError if their datasets or names are not the same. Other sizes are an error if `strict`, else a
    warning.
    """
    first = distributed.broadcast_object({name: found.record() for name, found in files.items()})
    names = {name: record["names"] for name, record in first.items()}
    same = names == {name: found.digest for name, found in files.items()}
    others = ", ".join(sorted(files.keys() ^ first.keys()))
    own = [f"the datasets are others ({others})"] if others else []
    answers = distributed.all_gather_objects((same, own + differences(first, files)))
    texts = [f"on process {rank} {text}" for rank, (_, found) in enumerate(answers) for text in found]
    if texts and (strict or not all(same for same, _ in answers)):
        raise UserError(f"{'; '.join(texts)}: not those of process 0; give all machines the same data")
    for text in texts:
        logger.warning("%s: not those of process 0; the run goes on with them", text)
