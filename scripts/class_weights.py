"""Measure how the pixels of each class are spread over images, for --sac_weights.

python -m scripts.class_weights cityscapes --predictions logs/.../eval_cityscapes/train/pred --out shares.json
python -m scripts.class_weights gtav --data_root DIR --out shares.json            # from its training labels

Predictions are what `eval.py --split train --dump_images` writes to pred/: the target's labels stay unused.
The file is {image: {train id: pixels of the class in the image / pixels of the class in all}}.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import config
from datasets import NUM_CLASSES, get_dataset_class
from datasets.labels import ID_TO_TRAIN_ID
from utils.exit import exit_cleanly


def shares(labels: Iterable[tuple[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Return the share of each class's pixels that is in each image, of (name, train ids (H, W)) pairs."""
    counts = {name: np.bincount(label.ravel(), minlength=256)[:NUM_CLASSES] for name, label in labels}
    totals = sum(counts.values())
    return {
        name: {str(c): float(count[c] / totals[c]) for c in np.flatnonzero(count)}
        for name, count in counts.items()
    }


def predictions(folder: Path) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the name and train ids of each PNG of Cityscapes label ids below `folder`."""
    files = sorted(folder.glob("**/*.png"))
    if not files:
        raise FileNotFoundError(f"no predictions NAME.png in {folder}; eval.py --dump_images writes them")
    for file in tqdm(files):
        name = file.relative_to(folder).with_suffix("").as_posix()
        yield name, ID_TO_TRAIN_ID[np.asarray(Image.open(file))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--predictions", type=Path, help="folder of predictions; default: the labels")
    parser.add_argument("--data_root", help="folder of the datasets, as in train.py")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.predictions:
        labels = predictions(args.predictions)
    else:
        root = config.dataset_roots(args.data_root)[args.dataset]
        dataset = get_dataset_class(args.dataset)(root, args.split, None)
        if any(sample.label is None for sample in dataset.samples):
            raise ValueError(f"{args.dataset} {args.split} has no labels; name --predictions")
        labels = ((dataset.name_of(s), dataset.read_label(s.label)) for s in tqdm(dataset.samples))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(shares(labels)) + "\n")


if __name__ == "__main__":
    with exit_cleanly():
        main()
