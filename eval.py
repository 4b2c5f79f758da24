"""Score a checkpoint on one or several datasets with sliding windows, pooled scales or whole images.

    python eval.py --snapshot FILE.pth --dataset gtav

The network, its normalization of images, its classes and its training domains come from the checkpoint where
the checkpoint records them. With torchrun or torch.distributed.launch, the processes share the images, and
the scores are the same.
"""

import argparse
import sys
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

import config
import network
from datasets import DATASETS, common_classes, get_dataset_class
from datasets.loaders import setup_eval_loader
from utils import checkpoint, distributed
from utils.classes import ClassTable
from utils.errors import UserError
from utils.evaluation import report, tables
from utils.evaluation.folder import ResultFolder
from utils.evaluation.inference import WindowBatcher, out_of_memory, predictions, window_batcher
from utils.evaluation.metrics import count_pixels
from utils.evaluation.progress import Background, Progress, merged
from utils.evaluation.protocol import Protocol
from utils.evaluation.recorder import PICTURES, Predicted, Recorder
from utils.evaluation.scores import Results, prune_pictures, score_dataset
from utils.exit import exit_cleanly
from utils.files import sha256
from utils.logging import logger, setup

ASPP_POOL_WINDOW = 105  # px of the feature map, with --fixed_aspp_pool


@dataclass(frozen=True)
class Evaluation:
    """What is the same for every dataset: the network, how it predicts, and where the results go."""

    net: WindowBatcher
    device: torch.device
    classes: ClassTable
    protocol: Protocol
    folder: ResultFolder


def main(args: argparse.Namespace) -> int:
    """Evaluate and write the results; return how many images could not be read."""
    device = distributed.init(args.local_rank, args.num_workers)
    setup()
    args = config.place_results(args, distributed.from_first_rank(lambda: checkpoint.find(args.snapshot)))
    place = Path(args.ckpt_path, args.exp_name)
    folder = ResultFolder(place, args.split, args.split_index, args.split_count)
    snapshot_sha256 = sha256(args.snapshot, "checkpoint")
    folder.check_writable()
    loaders = loaders_of(args, args.image_in)  # a missing dataset is found before the network is loaded
    net = load_network(args, device)
    image_in = image_in_of(args, net)
    if image_in != args.image_in:
        loaders = loaders_of(args, image_in)
    batcher = window_batcher(net, device, args.max_memory_gb)
    evaluation = Evaluation(batcher, device, net.classes, protocol_of(args, image_in), folder)
    if distributed.is_main():
        folder.slice_file().unlink(missing_ok=True)

    counts, unreadable = {}, {}
    for name, loader in loaders.items():
        recorder = recorder_of(args, name, evaluation, snapshot_sha256)
        unreadable[name] = evaluate_unfinished(evaluation, loader, recorder, args.profile)
        counts[name] = recorder.progress.gather()

    results = Results(
        run=Path(args.snapshot).stem,
        classes=net.classes,
        datasets={},
        seen=training_domains(net),
        protocol=evaluation.protocol,
        command=" ".join(sys.argv),
        snapshot=args.snapshot,
        snapshot_sha256=snapshot_sha256,
        peak_gpu_memory_gib=max(distributed.all_gather_objects(peak_memory(device))),
        unreadable={name: images for name, images in unreadable.items() if images},
        slice=(folder.index, folder.count),
    )
    if results.peak_gpu_memory_gib:
        logger.info("peak GPU memory %.2f GiB", results.peak_gpu_memory_gib)
    if distributed.is_main():
        write(folder, results, counts)
    return distributed.broadcast_object(sum(map(len, unreadable.values())))  # after all is written


def loaders_of(args: argparse.Namespace, image_in: bool) -> dict[str, DataLoader]:
    """Return a loader for each dataset; UserError for a dataset that is unknown or not there."""
    args = argparse.Namespace(**vars(args) | {"image_in": image_in})
    return {name: setup_eval_loader(args, name) for name in args.val_dataset}


def load_network(args: argparse.Namespace, device: torch.device) -> network.Segmenter:
    """Return the checkpoint's network; UserError where it contradicts a flag or the datasets' classes."""
    wt_layer = args.wt_layer if "wt_layer" in args.given else None
    net = network.load(
        args.snapshot,
        arch=args.arch or None,
        wt_layer=wt_layer,
        classes=classes_of(args.val_dataset),
        precision=args.precision,
        device=device,
    )
    logger.info("%s: %s", args.snapshot, net.report)
    if args.fixed_aspp_pool:
        pools = [module for module in net.modules() if hasattr(module, "pool_window")]
        if not pools:
            raise UserError(f"--fixed_aspp_pool changes the ASPP, which {net.settings['arch']} does not have")
        for pool in pools:
            pool.pool_window = ASPP_POOL_WINDOW
    return net


def classes_of(names: Sequence[str]) -> ClassTable | None:
    """Return the classes that all datasets have labels of; None if none of the datasets has labels.

    Raises UserError for datasets whose classes differ.
    """
    unlabelled = all(get_dataset_class(name).classes is None for name in names)
    return None if unlabelled else common_classes(names)


def image_in_of(args: argparse.Namespace, net: network.Segmenter) -> bool:
    """Return whether the network expects images normalized by their own mean and std.

    The checkpoint says so, or --image_in where it records nothing. UserError if the two contradict.
    """
    recorded = net.settings.get("image_in")
    if args.image_in and recorded is False:
        raise UserError(
            f"--image_in contradicts {args.snapshot}: it was trained with image_in False, not True"
        )
    return args.image_in if recorded is None else recorded


def protocol_of(args: argparse.Namespace, image_in: bool) -> Protocol:
    """Return what the flags decide about inference; mode "whole" has no scales and no mirror."""
    whole = args.inference_mode == "whole"
    return Protocol(
        mode=args.inference_mode,
        scales=(1.0,) if whole else tuple(args.scales),
        flip=not (args.no_flip or whole),
        crop=args.crop_size,
        overlap=args.sliding_overlap,
        precision=args.precision,
        split=args.split,
        cv_split=args.cv_split or 0,
        mapillary_protocol=args.mapillary_protocol,
        image_in=image_in,
        fixed_aspp_pool=args.fixed_aspp_pool,
    )


def recorder_of(args: argparse.Namespace, dataset: str, evaluation: Evaluation, sha256: str) -> Recorder:
    """Open what is finished of a dataset; all processes call this together."""
    protocol, folder = evaluation.protocol, evaluation.folder
    settings = protocol.to_dict() | {"snapshot_sha256": sha256, "dump_images": args.dump_images}
    unlabelled = args.split == "test" or dataset == "folder"  # only the predictions are of interest
    return Recorder(
        dataset,
        Progress(folder.progress(dataset), settings, resume=args.resume),
        folder.pictures(dataset, only_one=len(args.val_dataset) == 1),
        PICTURES if args.dump_images else ("pred",) if unlabelled else (),
        evaluation.classes,
        protocol.image_in,
    )


def evaluate_unfinished(
    evaluation: Evaluation, loader: DataLoader, recorder: Recorder, profile: bool = False
) -> list[str]:
    """Evaluate the images that are not finished; return those of all processes that cannot be read."""
    names = skip(loader, recorder.progress.finished)
    start = time.perf_counter()
    evaluate(evaluation, loader, recorder)
    if profile and names:
        seconds = (time.perf_counter() - start) / len(names)
        logger.info("%s: %.3f s per image", recorder.dataset, seconds)
    missed = [name for name in names if name not in recorder.progress.counts]
    return sorted(sum(distributed.all_gather_objects(missed), []))


def skip(loader: DataLoader, finished: Container[str]) -> list[str]:
    """Remove the `finished` images from this process's part of a dataset; return the names of the others."""
    names = {i: loader.dataset.name_of(loader.dataset.samples[i]) for i in loader.sampler.indices}
    loader.sampler.indices = [i for i, name in names.items() if name not in finished]
    return [names[i] for i in loader.sampler.indices]


def evaluate(evaluation: Evaluation, loader: DataLoader, recorder: Recorder) -> None:
    """Predict this process's part of a dataset and record each image.

    Files are written, and images loaded, while the device computes. Raises UserError when the GPU's memory is
    too small for one window and the scores of one image.
    """
    bar = tqdm(loader, recorder.dataset, disable=not distributed.is_main())
    net, device, inference = evaluation.net, evaluation.device, evaluation.protocol.inference()
    try:
        with Background() as background:
            for batch, _, label, scores in predictions(net, bar, device, **inference):
                pred = scores.argmax(1)  # (1, H, W)
                counts, _ = count_pixels(label, pred, len(evaluation.classes))
                name, image, label = batch["name"][0], batch["image"][0], batch["label"][0]
                background.submit(recorder.finish, Predicted(name, image, label, pred[0].byte(), counts))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "the GPU's memory is too small for one image; raise --max_memory_gb, leave out large --scales or "
            f"lower --crop_size ({str(error).splitlines()[0]})"
        ) from error


def peak_memory(device: torch.device) -> float:
    """Return the most GPU memory that PyTorch held, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0


def write(folder: ResultFolder, results: Results, counts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Score `counts` by dataset and image, and print and write the results.

    Of slices, the last one to be evaluated writes the results of the whole datasets.
    """
    results = scored(folder, results, counts, [folder.index])
    for name, scores in results.datasets.items():
        prune_pictures(folder.progress(name), scores)
    print_scores(results)
    if folder.count > 1:
        report.write_json(folder.slice_file(), results)
        if missing := folder.missing_slices():
            print(f"slices {', '.join(map(str, missing))} of {folder.count} are not evaluated yet")
        else:
            results = merge_slices(folder, results)
            print_scores(results)
    if results.slice == (0, 1):
        report.write_report(folder.path, results)
    print(f"results in {folder.path}")
    for name, images in results.unreadable.items():
        print(f"{name}: {len(images)} images cannot be read: {', '.join(images)}")


def scored(
    folder: ResultFolder, results: Results, counts: Mapping[str, Mapping[str, Tensor]], slices: Sequence[int]
) -> Results:
    """Return `results` with the scores of `counts` by dataset and image, which come from `slices`."""
    datasets = {
        name: score_dataset(
            images,
            results.classes,
            class_subsets([name, *results.seen]),
            [folder.progress(name, index) for index in slices],
        )
        for name, images in counts.items()
    }
    return replace(results, datasets=datasets)


def merge_slices(folder: ResultFolder, results: Results) -> Results:
    """Return the results of the whole datasets from those of all slices; UserError if they do not match."""
    slices, parts = range(folder.count), folder.read_slices()
    counts, unreadable = {}, {}
    for name in results.datasets:
        counts[name] = merged([folder.progress(name, index) for index in slices])
        if images := [image for part in parts for image in part["unreadable"].get(name, [])]:
            unreadable[name] = images
    peak = max(part["peak_gpu_memory_gib"] for part in parts)
    whole = replace(results, unreadable=unreadable, peak_gpu_memory_gib=peak, slice=(0, 1))
    return scored(folder, whole, counts, slices)


def training_domains(net: network.Segmenter) -> list[str]:
    """Return the datasets that the network was trained on or adapted to, as its checkpoint records them."""
    target = net.settings.get("adapt_dataset")
    return [*net.settings.get("dataset", []), *([target] if target else [])]


def class_subsets(names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the subsets of classes over which means are usual for any of the datasets `names`."""
    subsets: dict[str, tuple[int, ...]] = {}
    for name in names:
        subsets |= DATASETS[name].subsets if name in DATASETS else {}
    return subsets


def print_scores(results: Results) -> None:
    """Print a table of classes for each dataset and then one of datasets."""
    for name, scores in results.datasets.items():
        if scores.summary is None:
            print(f"\n{name}: no labels, so no scores")
        else:
            print(f"\n{name}\n{tables.text_table(tables.class_rows(results.classes, scores.summary))}")
            print(tables.summary_lines(results.classes, scores, scores.summary))
    if results.labelled:
        print(f"\n{tables.text_table(tables.dataset_rows(results))}")


if __name__ == "__main__":
    with exit_cleanly():
        unreadable = main(config.parse_eval_args())
    sys.exit(1 if unreadable else 0)
