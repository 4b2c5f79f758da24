"""Score a checkpoint on one or several datasets with sliding windows, pooled scales or whole images.

    python eval.py --arch DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0 --snapshot FILE.pth --dataset gtav

Also through torchrun or torch.distributed.launch: the images are shared out, the scores are the same.
"""

import json
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
from datasets import DATASETS
from datasets.labels import lookup_table
from datasets.loaders import setup_eval_loader
from network import get_net
from network.folding import Folded
from network.weights import load_weights
from utils import checkpoint, distributed, report, visualize
from utils.classes import CITYSCAPES, IGNORE_LABEL
from utils.exit import exit_cleanly
from utils.files import sha256 as sha256_of
from utils.inference import Windows, out_of_memory, predictions, windows_within
from utils.logging import logger, setup
from utils.metrics import count_pixels
from utils.records import Background, Records, check_writable, merged
from utils.results import Domain, prune_pictures, score_domain

NUM_CLASSES, TRAIN_ID_NAMES, TRAIN_ID_COLORS = len(CITYSCAPES), CITYSCAPES.names, CITYSCAPES.colors
TRAIN_ID_TO_ID = lookup_table(dict(enumerate(CITYSCAPES.ids)), default=0)
CLASS_SUBSETS = {name: dataset.subsets for name, dataset in DATASETS.items()}
ASPP_POOL_WINDOW = 105  # px of the feature map, with --fixed_aspp_pool
PICTURES = ("pred", "rgb", "compose", "diff")


def main(args) -> int:
    """Evaluate and write the results; return how many images could not be read."""
    device = distributed.init(args.local_rank)
    setup()
    results, sha256 = Path(args.ckpt_path, args.exp_name), sha256_of(args.snapshot)
    check_writable(results)
    loaders = {name: setup_eval_loader(args, name) for name in args.val_dataset}
    net, state = get_net(args), checkpoint.load(args.snapshot)
    net = windows_within(prepare(net, args, state, device), device, args.max_memory_gb)
    protocol = protocol_of(args)
    slice_file = results / f"results_{args.split_index}_of_{args.split_count}.json"
    if distributed.is_main():
        slice_file.unlink(missing_ok=True)

    images, unreadable = {}, {}
    for name, loader in loaders.items():
        settings = protocol | {"snapshot_sha256": sha256, "dump_images": args.dump_images}
        records = Records(records_folder(args, name), settings, resume=args.resume)
        names = leave_out(loader, records.finished)
        dump = results / (args.split if len(loaders) == 1 else f"{name}_{args.split}")
        unlabelled = args.split == "test" or name == "folder"  # where predictions are all there is
        kinds = PICTURES if args.dump_images else ("pred",) if unlabelled else ()
        start = time.perf_counter()
        evaluate(net, loader, device, protocol, name, records, dump, kinds)
        if args.profile and names:
            seconds = (time.perf_counter() - start) / len(names)
            logger.info("%s: %.3f s per image", name, seconds)
        missed = [image for image in names if image not in records.counts]
        unreadable[name] = sorted(sum(distributed.all_gather_objects(missed), []))
        images[name] = records.gather()

    record = {
        "command": " ".join(sys.argv),
        "snapshot": args.snapshot,
        "snapshot_sha256": sha256,
        "protocol": protocol | {"slice": [args.split_index, args.split_count]},
        "peak_gpu_memory_gib": max(distributed.all_gather_objects(peak_memory(device))),
        "unreadable": {name: files for name, files in unreadable.items() if files},
    }
    if memory := record["peak_gpu_memory_gib"]:
        logger.info("peak GPU memory %.2f GiB", memory)
    if distributed.is_main():
        run, seen = Path(args.snapshot).stem, trained_on(state.get("command", ""))
        domains = {}
        for name, counts in images.items():
            folder = records_folder(args, name)
            domains[name] = score_domain(counts, NUM_CLASSES, class_subsets(name, seen), [folder])
            prune_pictures(folder, domains[name])
        print_scores(run, domains, seen)
        if args.split_count == 1:
            report.write_report(results, run, domains, seen, TRAIN_ID_NAMES, TRAIN_ID_COLORS, record)
        else:
            report.write_results(slice_file, domains, classes=TRAIN_ID_NAMES, **record)
            merge_slices(args, results, run, seen, record)
        print(f"results in {results}")
        for name, files in record["unreadable"].items():
            print(f"{name}: {len(files)} images cannot be read: {', '.join(files)}")
    return distributed.broadcast_object(sum(map(len, unreadable.values())))  # when all is written


def prepare(net: nn.Module, args, state: dict, device: torch.device) -> Folded:
    """Return `net`, of --arch and --wt_layer, with the weights of a checkpoint; ValueError if unfit."""
    named = {"arch": args.arch.removeprefix("network.deepv3."), "wt_layer": args.wt_layer}
    checkpoint.check_settings(state, named)
    logger.info("%s: %s", args.snapshot, load_weights(net, state["state_dict"]))
    if args.fixed_aspp_pool:
        if not hasattr(net, "aspp"):
            raise ValueError(f"--fixed_aspp_pool changes the ASPP, which {args.arch} does not have")
        net.aspp.pool_window = ASPP_POOL_WINDOW
    return Folded(net.to(device), args.precision)


def protocol_of(args) -> dict:
    """Return everything that decides what the scores are of, but for network and data."""
    whole = args.inference_mode == "whole"
    return {
        "mode": args.inference_mode,
        "scales": [1.0] if whole else args.scales,
        "flip": not (args.no_flip or whole),
        "crop": args.crop_size,
        "overlap": args.sliding_overlap,
        "precision": args.precision,
        "split": args.split,
        "cv_split": args.cv_split or 0,
        "mapillary_protocol": args.mapillary_protocol,
        "image_in": args.image_in,
        "fixed_aspp_pool": args.fixed_aspp_pool,
    }


def records_folder(args, name: str, index: int | None = None) -> Path:
    index = args.split_index if index is None else index
    part = f"_{index}_of_{args.split_count}" if args.split_count > 1 else ""
    return Path(args.ckpt_path, args.exp_name, "records", f"{name}_{args.split}{part}")


def leave_out(loader: DataLoader, finished) -> list[str]:
    """Take the images named in `finished` from this process's share; return the names of the others."""
    names = {i: loader.dataset.name_of(loader.dataset.samples[i]) for i in loader.sampler.indices}
    loader.sampler.indices = [i for i, name in names.items() if name not in finished]
    return [names[i] for i in loader.sampler.indices]


def evaluate(
    net: Windows,
    loader: DataLoader,
    device: torch.device,
    protocol: dict,
    name: str,
    records: Records,
    dump: Path,
    kinds: tuple[str, ...],
) -> None:
    """Predict this process's share of a dataset and record each image; write pictures of `kinds` to `dump`.

    Files are written, and images loaded, while the device computes. Raises ValueError when the GPU's memory
    does not do for one window and the scores of one image.
    """
    inference = {key: protocol[key] for key in ("mode", "scales", "flip", "crop", "overlap")}
    loader = tqdm(loader, name, disable=not distributed.is_main())
    try:
        with Background() as background:
            for batch, _, label, scores in predictions(net, loader, device, **inference):
                pred = scores.argmax(1)  # (1, H, W)
                counts, _ = count_pixels(label, pred, NUM_CLASSES)
                seen = batch["image"][0], batch["label"][0], pred[0].byte()
                options = dump, kinds, protocol["image_in"]
                background.submit(finish, records, batch["name"][0], counts, *seen, *options)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ValueError(
            "the GPU's memory does not do for one image; raise --max_memory_gb, leave out large --scales or "
            f"lower --crop_size ({str(error).splitlines()[0]})"
        ) from error


def finish(records: Records, name: str, counts: Tensor, image, label, pred, dump, kinds, image_in) -> None:
    """Write an image's pictures, then record it."""
    pred = pred.cpu()
    dump_images(dump, name, image, label, pred, kinds, image_in)
    picture = visualize.summary_picture(image, label, pred, TRAIN_ID_COLORS, image_in)
    records.add(name, counts.cpu(), picture)


def dump_images(
    folder: Path, name: str, image: Tensor, label: Tensor, pred: Tensor, kinds, image_in: bool
) -> None:
    """Write pred/ (Cityscapes label ids), rgb/ (colours), compose/ (half photo) and, if labelled, diff/."""
    colors = visualize.colorize(pred, TRAIN_ID_COLORS)
    pictures = {
        "pred": ("", lambda: Image.fromarray(TRAIN_ID_TO_ID[pred.numpy()])),
        "rgb": ("_color", lambda: colors.convert("RGB")),
        "compose": ("_compose", lambda: visualize.blend(visualize.denormalize(image, image_in), colors)),
        "diff": ("_diff", lambda: visualize.error_map(label, pred)),
    }
    labelled = bool((label != IGNORE_LABEL).any())
    for kind in kinds:
        if labelled or kind != "diff":
            suffix, draw = pictures[kind]
            path = folder / kind / f"{name}{suffix}.png"  # an image of "folder" is named by its path
            path.parent.mkdir(parents=True, exist_ok=True)
            draw().save(path)


def peak_memory(device: torch.device) -> float:
    """Return the most GPU memory that PyTorch held, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0


def merge_slices(args, results: Path, run: str, seen: list[str], record: dict) -> None:
    """Write the results of the whole datasets once all slices are there; ValueError if they do not match."""
    slices = range(args.split_count)
    missing = [i for i in slices if not (results / f"results_{i}_of_{args.split_count}.json").is_file()]
    if missing:
        print(f"slices {', '.join(map(str, missing))} of {args.split_count} are left to be evaluated")
        return
    domains = {}
    for name in args.val_dataset:
        folders = [records_folder(args, name, i) for i in slices]
        domains[name] = score_domain(merged(folders), NUM_CLASSES, class_subsets(name, seen), folders)
    print_scores(run, domains, seen)
    parts = [json.loads((results / f"results_{i}_of_{args.split_count}.json").read_text()) for i in slices]
    unreadable = {name: sum((part["unreadable"].get(name, []) for part in parts), []) for name in domains}
    record["unreadable"] = {name: files for name, files in unreadable.items() if files}
    record["peak_gpu_memory_gib"] = max(part["peak_gpu_memory_gib"] for part in parts)
    record["protocol"]["slice"] = [0, 1]
    report.write_report(results, run, domains, seen, TRAIN_ID_NAMES, TRAIN_ID_COLORS, record)


def trained_on(command: str) -> list[str]:
    """Return the domains trained on or adapted to, from a checkpoint's training command; [] without one."""
    if not command:
        return []
    flags = dict(re.findall(r"--(dataset|adapt_dataset)((?:\s+[^-\s]\S*)+)", command.replace("=", " ")))
    source = flags.get("dataset", " ".join(config.get_parser("train").get_default("dataset")))
    return f"{source} {flags.get('adapt_dataset', '')}".split()


def class_subsets(name: str, seen: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the subsets of classes usual for dataset `name` and for networks trained on `seen`."""
    subsets = [CLASS_SUBSETS.get(domain, {}) for domain in (name, *seen)]
    return {title: classes for subset in subsets for title, classes in subset.items()}


def print_scores(run: str, domains: dict[str, Domain], seen: list[str]) -> None:
    """Print a table of classes for each dataset and then one of datasets; those in `seen` were trained on."""
    for name, domain in domains.items():
        if domain.summary is None:
            print(f"\n{name}: no labels, so no scores")
        else:
            print(f"\n{name}\n{report.text_table(report.class_rows(TRAIN_ID_NAMES, domain.summary))}")
            print(report.summary_lines(TRAIN_ID_NAMES, domain))
    scores = {name: domain.summary.mean_iu for name, domain in domains.items() if domain.summary}
    if scores:
        print(f"\n{report.text_table(report.domain_rows({run: scores}, seen))}")


if __name__ == "__main__":
    with exit_cleanly():
        unreadable = main(config.parse_eval_args())
    sys.exit(1 if unreadable else 0)
