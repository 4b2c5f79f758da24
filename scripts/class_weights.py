"""Measure how the pixels of each class are spread over images, for --sac_weights.

python -m scripts.class_weights cityscapes --predictions logs/.../eval_cityscapes/train/pred --out shares.json
python -m scripts.class_weights gtav --data_root DIR --out shares.json            # from its training labels

Predictions are what `eval.py --split train --dump_images` writes to pred/. The target's labels are not read.
The file is {image: {train id: pixels of the class in the image / pixels of the class in all}}.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import config
from datasets import common_classes, get_dataset_class
from datasets.labels import lookup_table, train_ids
from datasets.lazy import LazyImage, read_content
from utils import bars
from utils.classes import IGNORE_LABEL, ClassTable
from utils.errors import MissingFile, UserError
from utils.exit import exit_cleanly
from utils.files import printable, write_text
from utils.images import check_label
from utils.parser import Parser


def shares(labels: Iterable[tuple[str, np.ndarray]], num_classes: int) -> dict[str, dict[str, float]]:
    """Return the share of each class's pixels that is in each image, of (name, train ids (H, W)) pairs."""
    counts = {name: np.bincount(label.ravel(), minlength=256)[:num_classes] for name, label in labels}
    totals = sum(counts.values(), np.zeros(num_classes, np.int64))
    return {
        name: {str(c): float(count[c] / totals[c]) for c in np.flatnonzero(count)}
        for name, count in counts.items()
    }


def predictions(folder: Path, classes: ClassTable) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the name and train ids of each PNG of class ids below `folder`."""
    table = lookup_table({id: train_id for train_id, id in enumerate(classes.ids)}, default=IGNORE_LABEL)
    files = sorted(folder.glob("**/*.png"))
    if not files:
        raise MissingFile(f"no predictions NAME.png in {folder}; eval.py --dump_images writes them")
    for file in bars.over(files, "predictions"):
        name = file.relative_to(folder).with_suffix("").as_posix()
        title = f"prediction {printable(file)}"
        content = read_content(file, title)
        yield (
            name,
            np.asarray(
                LazyImage(content, lambda image: train_ids(image, table, "eval.py"), title, check_label)
            ),
        )


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("dataset", help="dataset to measure")
    parser.add_argument("--predictions", type=Path, help="folder of predictions; default: the labels")
    parser.add_argument(
        "--classes_of", default="null", help="dataset whose classes predictions have, for dataset folder"
    )
    parser.add_argument("--data_root", help="folder of the datasets, as in train.py")
    parser.add_argument("--split", default="train", help="split to measure")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .json")
    args = parser.parse_args()
    dataset_class, classes = get_dataset_class(args.dataset), common_classes([args.dataset, args.classes_of])
    if args.predictions:
        labels = predictions(args.predictions, classes)
    else:
        dataset = dataset_class(config.Roots(args.data_root)(dataset_class), args.split, None)
        if any(sample.label is None for sample in dataset.samples):
            raise UserError(f"{args.dataset} {args.split} has no labels; name --predictions")
        samples = bars.over(dataset.samples, args.dataset)
        labels = ((dataset.name_of(s), dataset.read_label(s.label)) for s in samples)
    write_text(args.out, json.dumps(shares(labels, len(classes))) + "\n")


if __name__ == "__main__":
    with exit_cleanly():
        main()
