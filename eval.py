"""Score a checkpoint on one or several datasets with sliding windows, pooled scales or whole images.

    python eval.py --arch DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0 --snapshot FILE.pth --dataset gtav

Also through torchrun or torch.distributed.launch: the images are shared out, the scores are the same.
"""

import re
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import config
from datasets import NUM_CLASSES
from datasets.labels import IGNORE_LABEL, TRAIN_ID_COLORS, TRAIN_ID_NAMES, TRAIN_ID_TO_ID
from datasets.loaders import setup_eval_loader
from network import get_net
from network.folding import Folded
from utils import checkpoint, distributed, report, visualize
from utils.inference import Windows, predictions, windows_within
from utils.logging import exit_cleanly, logger, setup
from utils.metrics import ConfusionMatrix

ASPP_POOL_WINDOW = 105  # px of the feature map, with --fixed_aspp_pool


def main(args) -> None:
    device = distributed.init(args.local_rank)
    setup()
    state = checkpoint.load(args.snapshot)
    net = get_net(args)
    named = {"arch": args.arch.removeprefix("network.deepv3."), "wt_layer": args.wt_layer}
    checkpoint.check_settings(state, named)
    logger.info("%s: %s", args.snapshot, checkpoint.load_weights(net, state["state_dict"]))
    if args.fixed_aspp_pool:
        net.aspp.pool_window = ASPP_POOL_WINDOW
    net = windows_within(Folded(net.to(device), args.precision), device, args.max_memory_gb)

    protocol = {
        "mode": args.inference_mode,
        "scales": args.scales,
        "flip": not args.no_flip,
        "crop": args.crop_size,
        "overlap": args.sliding_overlap,
    }
    if args.inference_mode == "whole":
        protocol |= {"scales": [1.0], "flip": False}
    results = Path(args.ckpt_path, args.exp_name)

    summaries = {}
    for name in args.val_dataset:
        loader = setup_eval_loader(args, name)
        split = args.split if len(args.val_dataset) == 1 else f"{name}_{args.split}"
        start = time.perf_counter()
        dump = results / split if args.dump_images else None
        confusion = evaluate(net, loader, device, protocol, name, dump, args.image_in)
        if args.profile:
            logger.info("%s: %.3f s per image", name, (time.perf_counter() - start) / max(1, len(loader)))
        confusion.all_reduce()
        summary = confusion.summary()
        summaries[name] = summary if summary.present else None

    slice_name = f"{args.split_index}_of_{args.split_count}"
    if distributed.is_main():
        print_scores(Path(args.snapshot).stem, summaries, trained_on(state.get("command", "")))
        report.write_results(
            results / ("results.json" if args.split_count == 1 else f"results_{slice_name}.json"),
            metrics=summaries,
            classes=TRAIN_ID_NAMES,
            command=" ".join(sys.argv),
            snapshot=args.snapshot,
            protocol=protocol | {"split": args.split, "slice": [args.split_index, args.split_count]},
        )
        print(f"results in {results}")


def evaluate(
    net: nn.Module | Windows,
    loader: DataLoader,
    device: torch.device,
    protocol: dict,
    name: str,
    dump: Path | None = None,
    image_in: bool = False,
) -> ConfusionMatrix:
    """Predict this process's share of a dataset, count it and, given a folder, write the pictures there."""
    confusion = ConfusionMatrix(NUM_CLASSES)
    loader = tqdm(loader, name, disable=not distributed.is_main())
    for batch, _, label, scores in predictions(net, loader, device, **protocol):
        pred = scores.argmax(1)  # (1, H, W)
        confusion.update(label, pred)
        if dump:
            shown = batch["image"][0], batch["label"][0], pred[0].cpu()
            dump_images(dump, batch["name"][0], *shown, image_in)
    return confusion


def dump_images(
    folder: Path, name: str, image: Tensor, label: Tensor, pred: Tensor, image_in: bool = False
) -> None:
    """Write pred/ (Cityscapes label ids), rgb/ (colours), compose/ (half photo) and, if labelled, diff/."""
    colors = visualize.colorize(pred, TRAIN_ID_COLORS)
    pictures = {
        "pred": (f"{name}.png", Image.fromarray(TRAIN_ID_TO_ID[pred.numpy()])),
        "rgb": (f"{name}_color.png", colors.convert("RGB")),
        "compose": (f"{name}_compose.png", visualize.blend(visualize.denormalize(image, image_in), colors)),
    }
    if (label != IGNORE_LABEL).any():
        pictures["diff"] = (f"{name}_diff.png", visualize.error_map(label, pred))
    for kind, (file, picture) in pictures.items():
        path = folder / kind / file  # an image of the dataset "folder" is named by its path
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def trained_on(command: str) -> list[str]:
    """Read the source domains from a checkpoint's training command; none if it does not say."""
    flag = re.search(r"--dataset((?:\s+[^-\s]\S*)+)", command.replace("=", " "))
    return flag[1].split() if flag else []


def print_scores(run: str, summaries: dict, seen: list[str]) -> None:
    """Print a table of classes for each dataset and then one of datasets; those in `seen` were trained on."""
    for name, summary in summaries.items():
        if summary is None:
            print(f"\n{name}: no labels, so no scores")
        else:
            print(f"\n{name}\n{report.text_table(report.class_rows(TRAIN_ID_NAMES, summary))}")
            print(report.summary_lines(TRAIN_ID_NAMES, summary))
    scores = {name: summary.mean_iu for name, summary in summaries.items() if summary}
    if scores:
        print(f"\n{report.text_table(report.domain_rows({run: scores}, seen))}")


if __name__ == "__main__":
    with exit_cleanly():
        main(config.parse_eval_args())
