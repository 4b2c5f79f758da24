"""The share of each class's pixels that is in each image, from a file of scripts.class_weights."""

import json
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from utils.errors import MissingFile, UserError
from utils.files import read_text


class ClassShares:
    """The content of `file`, {image: {train id: share}}.

    Raises MissingFile if it is not there, UserError if it is another kind of file.
    """

    def __init__(self, file: str) -> None:
        if not Path(file).is_file():
            raise MissingFile(f"no class shares at {file}; scripts.class_weights writes them")
        self.file = file
        try:
            self.table = json.loads(read_text(Path(file)))
        except ValueError as error:
            raise UserError(f"{file} is not a file of scripts.class_weights: {error}") from error

    def of_images(self, dataset: SegmentationDataset, num_classes: int) -> np.ndarray:
        """Return the shares (K, images) of a dataset's images; UserError if one is not in the file."""
        names = [dataset.name_of(sample) for sample in dataset.samples]
        if missing := [name for name in names if name not in self.table]:
            raise UserError(f"{len(missing)} of {len(names)} images are not in {self.file}: {missing[0]}")
        return np.array([[self.table[name].get(str(c), 0.0) for name in names] for c in range(num_classes)])
