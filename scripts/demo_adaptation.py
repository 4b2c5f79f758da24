"""Adapt to an unlabelled domain and compare: source only, batch norm (ABN), self-training (SAC).

python -m scripts.demo_adaptation --seeds 0 1 2                      a toy town, GTAV-like to Cityscapes-like
python -m scripts.demo_adaptation --source gtav --target cityscapes --data_root DIR
python -m scripts.demo_adaptation --source camvid --target folder --score_dataset camvid \\
  --score_split test --data_root DIR -- --sac_crop 144 192                    DIR/folder: only images

Source only and ABN train equally long from random weights. SAC starts from ABN's weights, so it trains on the
source for longer. Labels of the target are used only for the final table. SAC's learning rate and length on a
GPU were changed once after a look at that table (README). Flags after -- go to every training.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from datasets import get_dataset_class
from utils.evaluation import tables
from utils.exit import exit_cleanly
from utils.parser import Parser

# Sizes (height, width) of the town's images and of target views, and training flags. One seed takes 5 to 8
# minutes on 2 idle CPU cores (estimated from its CPU time).
SMALL: dict[str, Any] = {
    "town": (128, 256, 200, 16),  # height, width, training and validation images
    "arch": "DeepMobileNetV3PlusD",
    "crop": 96,
    "views": (64, 128),
    "batch": 8,
    "iterations": (250, 150),  # source only and ABN; SAC
    "lr": (0.03, 0.003),
    "workers": 1,
}
LARGE = SMALL | {
    "town": (256, 512, 240, 40),
    "arch": "DeepR50V3PlusD",
    "crop": 256,
    "views": (256, 512),
    "batch": 16,
    "iterations": (400, 600),
    "lr": (0.02, 0.00025),
    "workers": 8,
}


def call(*words: object) -> None:
    """Run a program of this project; exit with its status if it fails, after its own message."""
    print("\n$ python", *words, flush=True)
    if status := subprocess.run([sys.executable, *map(str, words)]).returncode:
        sys.exit(status)


def train(args: argparse.Namespace, size: dict[str, Any], name: str, seed: int, *flags: object) -> Path:
    """Train, unless an earlier call finished that, and return the folder of the checkpoints."""
    place = args.out / f"{name}_{seed}"
    if not (place / "finished").exists():
        shutil.rmtree(place, ignore_errors=True)  # what an interrupted call left
        views = " ".join(map(str, size["views"]))
        settings = (
            f"--dataset {args.source} --covstat_val_dataset {args.source} --val_dataset null --seed {seed} "
            f"--arch {size['arch']} --pretrained none --global_batch_size {size['batch']} "
            f"--crop_size {size['crop']} --scale_min 0.75 --scale_max 1.5 --gblur --color_aug 0.5 "
            f"--sac_crop {views} --sac_teacher_every 1 --num_workers {size['workers']}"
        )
        place_flags = "--data_root", args.data_root, "--ckpt", place, "--tb_path", place
        call("train.py", *settings.split(), *place_flags, *flags, *args.flags)
        (place / "finished").touch()
    return place


def score(args: argparse.Namespace, size: dict[str, Any], place: Path, kind: str) -> float:
    """Return the mean IU on the target of the checkpoint `kind` ("last" or "ema") in `place`."""
    (snapshot,) = place.glob(f"**/{kind}_*.pth")
    results = place / kind / "results.json"
    if not results.exists():
        settings = (
            f"--dataset {args.score_dataset} --split {args.score_split} "
            f"--inference_mode whole --num_workers {size['workers']} --exp_name {kind}"
        )
        place_flags = "--data_root", args.data_root, "--snapshot", snapshot, "--ckpt_path", place
        call("eval.py", *settings.split(), *place_flags)
    return json.loads(results.read_text())["metrics"][args.score_dataset]["mean_iu"]


def compare(args: argparse.Namespace, size: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one seed with each method; return the mean IU on the target by method."""
    first, second = size["iterations"]
    rate, rate_sac = size["lr"]
    plain = "--max_iter", first, "--lr", rate
    target = "--adapt_dataset", args.target
    source = train(args, size, "source", seed, *plain)
    abn = train(args, size, "abn", seed, *plain, *target, "--sac_phase", "abn", "--sac_images", size["batch"])
    (snapshot,) = abn.glob("**/last_*.pth")
    settings = "--max_iter", second, "--lr", rate_sac, "--lr_schedule", "constant", "--lr_bias", 2
    sac = train(args, size, "sac", seed, *settings, *target, "--snapshot", snapshot)
    return {
        "source only": score(args, size, source, "last"),
        "ABN": score(args, size, abn, "last"),
        "SAC": score(args, size, sac, "last"),
        "SAC, teacher": score(args, size, sac, "ema"),
    }


def table(scores: list[dict[str, float]], seeds: list[int]) -> tables.Rows:
    """Lay out mean IU in percent: methods as rows, seeds, their mean and standard deviation as columns."""
    rows = [["mIoU (%)", *(f"seed {seed}" for seed in seeds), "mean", "std"]]
    for name in scores[0]:
        values = [score[name] for score in scores]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        rows.append([name, *map(tables.percent, [*values, statistics.mean(values), spread])])
    return rows


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--source", default="gtav", help="labelled domain")
    parser.add_argument(
        "--target", default="cityscapes", help="domain to adapt to; only its training images are used"
    )
    parser.add_argument("--score_dataset", help="dataset to score; default: the target")
    parser.add_argument("--score_split", default="val", help="split to score")
    parser.add_argument("--data_root", help="folder of the datasets; default: a toy town is written")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("logs/adaptation"),
        help="results; finished parts with the same settings are reused",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the trainings of each kind")
    parser.add_argument("--large", action="store_true", help="larger network and images, as always on a GPU")
    parser.add_argument("flags", nargs="*", help="after --: more flags of train.py")
    args = parser.parse_args()
    args.score_dataset = args.score_dataset or args.target
    size = LARGE if args.large or torch.cuda.is_available() else SMALL
    if args.data_root is None:
        height, width, images, val = size["town"]
        args.data_root = f"data/adaptation_{height}"
        call(
            *("-m", "datasets.toy_city", "--out", args.data_root, "--height", height, "--width", width),
            *("--train", images, "--val", val, "--domains", args.source, args.target),
        )
    for name in (args.source, args.target):  # raises an error if it is missing
        get_dataset_class(name)(Path(args.data_root, name), "train", None, labelled=False)
    key = args.source, args.target, args.score_dataset, args.score_split, args.data_root, args.flags, size
    args.out /= hashlib.sha256(json.dumps(key).encode()).hexdigest()[:8]
    scores = [compare(args, size, seed) for seed in args.seeds]
    print(f"\n{args.source} to {args.target}, scored on {args.score_dataset} {args.score_split}")
    print(tables.markdown_table(table(scores, args.seeds)))


if __name__ == "__main__":
    with exit_cleanly():
        main()
