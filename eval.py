"""Score a checkpoint on one or several datasets with sliding windows, pooled scales or whole images.

    python eval.py --snapshot FILE.pth --dataset gtav

The network, its normalization of images, its classes and its training domains come from the checkpoint where
the checkpoint records them. With torchrun or torch.distributed.launch, the processes share the images, and
the scores are the same.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import config
import network
from datasets import DATASETS, common_classes, get_dataset_class
from datasets.loaders import setup_eval_loader
from utils import bars, checkpoint, distributed, settings
from utils.classes import ClassTable
from utils.errors import UserError
from utils.evaluation import memory, report, robustness
from utils.evaluation.counts import Measures
from utils.evaluation.fingerprint import fingerprints
from utils.evaluation.folder import PICTURES, ResultFolder
from utils.evaluation.inference import window_batcher
from utils.evaluation.loop import UNREADABLE, Evaluation, base_of, evaluate_unfinished
from utils.evaluation.printed import print_dataset, print_datasets
from utils.evaluation.progress import Progress, merged
from utils.evaluation.protocol import Protocol
from utils.evaluation.recorder import Pictures, Recorder
from utils.evaluation.scores import Results, prune_pictures, score_dataset
from utils.exit import exit_cleanly
from utils.files import printable, safe_name, sha256
from utils.logging import logger, own_logger, setup
from utils.variants import parse

ASPP_POOL_WINDOW = 105  # px of the feature map, with --fixed_aspp_pool


def main(args: argparse.Namespace) -> int:
    """Evaluate and write the results; return how many images were left out."""
    device = distributed.init(args.local_rank, args.num_workers)
    setup()
    args = config.place_results(args, distributed.from_first_rank(lambda: checkpoint.find(args.snapshot)))
    limit = args.max_memory_gb if device.type == "cpu" else None
    if limit:
        args.num_workers = 0  # loader processes would hold images of their own
    place = Path(args.ckpt_path, args.exp_name)
    folder = ResultFolder(place, args.split, args.val_dataset, args.split_index, args.split_count)
    try:
        with memory.at_most(limit):
            return evaluate_datasets(args, folder, device)
    except BaseException:
        folder.remove_if_empty()
        raise


def evaluate_datasets(args: argparse.Namespace, folder: ResultFolder, device: torch.device) -> int:
    """Evaluate one dataset after the other; return how many images were left out."""
    classes_of(args.val_dataset)  # datasets that differ in their classes are found before any is listed
    file_before = state_of_file(args.snapshot)  # taken first, so that the hash is that of what is loaded
    snapshot_sha256 = sha256(args.snapshot, "checkpoint")
    folder.check_writable()
    use_recorded_roots(args)
    loaders = loaders_of(args, args.image_in)  # a missing dataset is found before the network is loaded
    check_labels(args, loaders)
    net = load_network(args, device)
    check_same_file(args.snapshot, file_before, snapshot_sha256)
    warn_of_other_roots(args, net.settings.get("data_root"))
    image_in = image_in_of(args, net)
    if image_in != args.image_in:
        loaders = loaders_of(args, image_in)
    batcher = window_batcher(net, device, args.max_memory_gb)
    bar = bars.Bar("evaluation", sum(len(loader.sampler.indices) for loader in loaders.values()))
    measures = Measures(args.calibration, args.boundary_iou)
    evaluation = Evaluation(batcher, device, net.classes, protocol_of(args, image_in), folder, bar, measures)
    reference = robustness.read_reference(
        args.corruption_reference, args.val_dataset, evaluation.protocol.to_dict()
    )
    data = {name: data_of(loader) for name, loader in loaders.items()}
    kinds = {name: pictures_of(args, name) for name in loaders}  # of pictures
    must_match = evaluation.protocol.to_dict() | measures.to_dict() | {"snapshot_sha256": snapshot_sha256}
    names = {name: list(images) for name, images in data.items()}
    distributed.from_first_rank(
        lambda: folder.prepare(must_match, names, kinds, resume=args.resume, overwrite=args.overwrite)
    )

    results = unscored(args.snapshot, snapshot_sha256, net, evaluation)
    results = replace(results, reference=reference, unfinished=list(loaders))
    must_match |= {"dump_images": args.dump_images}
    for name, loader in loaders.items():
        recorder = recorder_of(name, evaluation, must_match, data[name], kinds[name], args.resume)
        left_out = evaluate_unfinished(evaluation.of(name), loader, recorder, args.profile)
        counts = recorder.progress.gather()
        peak = max(distributed.all_gather_objects(peak_memory(device)))
        results = replace(results, peak_gpu_memory_gib=peak, unfinished=results.unfinished[1:])
        if left_out:
            results = replace(results, left_out=dict(results.left_out) | {name: left_out})
        if distributed.is_main():
            results = with_dataset(folder, results, name, counts, [folder.index])
            prune_pictures(folder.progress(name), results.datasets[name])
            with bars.aside():
                print_dataset(results, name)
            if results.unfinished and folder.count == 1:
                report.write_report(folder.path, results)  # the next dataset may fail
    bar.close()
    if results.peak_gpu_memory_gib:
        logger.info("peak GPU memory %.2f GiB", results.peak_gpu_memory_gib)
    if distributed.is_main():
        write(folder, results)
    return distributed.broadcast_object(sum(map(len, results.left_out.values())))  # after all is written


def state_of_file(file: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written to; None if there is no file."""
    try:
        state = os.stat(file)
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def check_same_file(file: str, before: tuple[int, int, int] | None, digest: str) -> None:
    """Raise UserError unless the checkpoint `file` is as `before`, with one hash, on all processes.

    All processes call this, so that none waits for one that has noticed a change.
    """
    answers = distributed.all_gather_objects((state_of_file(file) == before, digest))
    if set(answers) != {(True, answers[0][1])}:
        raise UserError(
            f"{file} was replaced or removed while it was read, or is another one on each machine; "
            "evaluate one file"
        )


def unscored(snapshot: str, snapshot_sha256: str, net: network.Segmenter, evaluation: Evaluation) -> Results:
    """Return the results before any dataset is scored."""
    return Results(
        run=printable(checkpoint.title(Path(snapshot))),
        classes=net.classes,
        datasets={},
        network={key: net.settings.get(key) for key in ("arch", "wt_layer")},
        training_domains=training_domains(net),
        protocol=evaluation.protocol,
        command=printable(shlex.join(sys.argv)),
        snapshot=printable(snapshot),
        snapshot_sha256=snapshot_sha256,
        peak_gpu_memory_gib=0.0,
        left_out={},
        part=(evaluation.folder.index, evaluation.folder.count),
        measures=evaluation.measures,
    )


def use_recorded_roots(args: argparse.Namespace) -> None:
    """Look below the recorded --data_root for datasets that are not at their root, if no flag places them."""
    missing = [
        dataset
        for dataset in map(get_dataset_class, args.val_dataset)
        if dataset.root_variable
        and dataset.name not in args.roots.folders
        and not args.roots(dataset).exists()
    ]
    if missing and not args.data_root:
        recorded = settings.recorded(checkpoint.load(args.snapshot)).get("data_root")
        for dataset in missing if recorded else ():
            if (place := Path(recorded, dataset.name)).exists():
                logger.info("%s is read from %s, where the training had its data", dataset.name, place)
                args.roots.folders[dataset.name] = place


def warn_of_other_roots(args: argparse.Namespace, recorded: str | None) -> None:
    """Warn of datasets that are read from elsewhere, although the training's --data_root has them, too."""
    if args.data_root or not recorded:
        return
    for dataset in map(get_dataset_class, args.val_dataset):
        place, theirs = args.roots(dataset), Path(recorded, dataset.name)
        if theirs.exists() and place.resolve() != theirs.resolve():
            text = "%s is read from %s; the training had %s (--data_root %s)"
            logger.warning(text, dataset.name, place, theirs, recorded)


def loaders_of(args: argparse.Namespace, image_in: bool) -> dict[str, DataLoader]:
    """Return a loader for each dataset; UserError for a dataset that is unknown or not there."""
    args = argparse.Namespace(**vars(args) | {"image_in": image_in})
    return {name: setup_eval_loader(args, name) for name in args.val_dataset}


def check_labels(args: argparse.Namespace, loaders: Mapping[str, DataLoader]) -> None:
    """Raise UserError for flags that need labels, if no dataset has any."""
    samples = [sample for loader in loaders.values() for sample in base_of(loader).samples]
    flags = [f"--{flag}" for flag in ("calibration", "boundary_iou", "scale_sweep") if getattr(args, flag)]
    if flags and samples and all(sample.label is None for sample in samples):
        names = ", ".join(name for name in loaders if not parse(name).is_variant)
        raise UserError(f"{' and '.join(flags)} need labels, but split {args.split} of {names} has none")


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
        test_mode=args.test_mode,
    )


def pictures_of(args: argparse.Namespace, dataset: str) -> tuple[str, ...]:
    """Return the kinds of large pictures to write: without labels, the predictions are written unasked."""
    unlabelled = args.split == "test" or parse(dataset).dataset == "folder"
    return PICTURES if args.dump_images else ("pred",) if unlabelled else ()


def data_of(loader: DataLoader) -> dict[str, str]:
    """Return the fingerprints of a loader's images and labels by safe name; all processes call this together.

    The log shows the names that had to be changed.
    """
    samples = [base_of(loader).samples[i] for i in loader.sampler.indices]
    names = [base_of(loader).name_of(sample) for sample in samples]
    files = [(sample.image, sample.label) for sample in samples]
    changed = [f"{printable(name)} as {safe_name(name)}" for name in names if safe_name(name) != name]
    if changed:
        more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
        own_logger.warning("names that are no safe names of files: %s%s", ", ".join(changed[:3]), more)
    own = fingerprints(dict(zip(map(safe_name, names), files, strict=True)))
    return {name: data for part in distributed.all_gather_objects(own) for name, data in part.items()}


def recorder_of(
    dataset: str,
    evaluation: Evaluation,
    must_match: Mapping[str, Any],
    data: Mapping[str, str],
    kinds: Collection[str],
    resume: bool,
) -> Recorder:
    """Open the records of a dataset, whose settings `must_match`; all processes call this together."""
    folder = evaluation.folder
    pictures = Pictures(
        folder.path, folder.pictures(dataset), kinds, evaluation.classes, evaluation.protocol.image_in
    )
    progress = Progress(folder.progress(dataset), must_match, data, files=pictures.files, resume=resume)
    return Recorder(dataset, progress, pictures)


def peak_memory(device: torch.device) -> float:
    """Return the most GPU memory that PyTorch held, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else 0.0


def write(folder: ResultFolder, results: Results) -> None:
    """Print and write the results. Of slices, the last one writes those of the whole datasets."""
    if folder.count > 1:
        report.write_json(folder.slice_file(), results)
        if missing := folder.missing_slices():
            print(f"slices {', '.join(map(str, missing))} of {folder.count} are not evaluated yet")
        else:
            results = merge_slices(folder, results)
            for name in results.datasets:
                print_dataset(results, name)
    print_datasets(results)
    if results.part == (0, 1):
        report.write_report(folder.path, results)
    print(f"results in {printable(folder.path)}")
    for name, images in results.left_out.items():
        for why in sorted(set(images.values())):
            found = [image for image in images if images[image] == why]
            print(f"{name}: {len(found)} images {why}: {', '.join(found)}")


def with_dataset(
    folder: ResultFolder, results: Results, name: str, counts: Mapping[str, Tensor], slices: Sequence[int]
) -> Results:
    """Return `results` with the scores of one more dataset, from the counts of images in `slices`."""
    scores = score_dataset(
        counts,
        results.classes,
        class_subsets([name, *results.training_domains]),
        [folder.progress(name, index) for index in slices],
        get_dataset_class(name).occurring,
    )
    return replace(results, datasets=dict(results.datasets) | {name: scores})


def merge_slices(folder: ResultFolder, results: Results) -> Results:
    """Return the results of the whole datasets from those of all slices; UserError if they do not match."""
    slices, parts = range(folder.count), folder.read_slices()
    peak = max(part["peak_gpu_memory_gib"] for part in parts)
    complete = replace(results, datasets={}, left_out={}, peak_gpu_memory_gib=peak, part=(0, 1))
    for name in results.datasets:
        images: dict[str, str] = {}
        for part in parts:  # slices of earlier versions do not say why
            images |= part.get("left_out", {}).get(name) or dict.fromkeys(
                part["unreadable"].get(name, []), UNREADABLE
            )
        if images:
            complete = replace(complete, left_out=dict(complete.left_out) | {name: images})
        counts = merged([folder.progress(name, index) for index in slices], images)
        complete = with_dataset(folder, complete, name, counts, slices)
    return complete


def training_domains(net: network.Segmenter) -> list[str]:
    """Return the datasets that the network was trained on or adapted to, as its checkpoint records them."""
    target = net.settings.get("adapt_dataset")
    return [*net.settings.get("dataset", []), *([target] if target else [])]


def class_subsets(names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the subsets of classes over which means are usual for any of the datasets `names`."""
    subsets: dict[str, tuple[int, ...]] = {}
    for name in names:
        dataset = parse(name).dataset
        subsets |= DATASETS[dataset].subsets if dataset in DATASETS else {}
    return subsets


if __name__ == "__main__":
    with exit_cleanly(launched=True):
        left_out = main(config.parse_eval_args())
    sys.exit(1 if left_out else 0)
