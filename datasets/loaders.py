"""From the command line's flags to loaders."""

import atexit
import logging
import multiprocessing
import signal
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets import common_classes, get_dataset_class
from datasets.base import SegmentationDataset, Transform
from datasets.cache import CachedImages
from datasets.cityscapes import Cityscapes
from datasets.class_shares import ClassShares
from datasets.class_uniform import ClassUniform
from datasets.epochs import SharedEpoch
from datasets.mapillary import Mapillary
from datasets.multi_source import ConcatSources, OnePerDomain, collate
from datasets.null import Null
from datasets.readable import Replacing, Tolerant, collate_by_size, collate_one, collate_reasons
from datasets.samplers import EvalSampler, ImportanceSampler, StatisticsSampler, TrainSampler
from datasets.views import PhotometricPairs, TargetCrops, TargetViews
from datasets.wrapper import LabelledSource
from transforms import presets
from transforms.corruptions import Corruption
from transforms.photometric import Photometric
from transforms.source import SourcePreset
from utils import distributed, variants
from utils.classes import ClassTable
from utils.errors import MissingFile, UserError
from utils.inventory import Inventory, inventory
from utils.norms import Norm
from utils.pixels import DATASET_COLORS, IMAGENET, Colors, matched_colors

logger = logging.getLogger("robustnet")
TEST_MODE_IMAGES = 12


class Loaders(NamedTuple):
    """Call `set_epoch` of a loader's dataset and sampler before iterating (statistics: the trial)."""

    train: DataLoader
    steps_per_batch: int  # optimizer steps for one batch; step i of n uses images i, i + n, .. of it
    val: dict[str, DataLoader]  # by the name of the dataset; see datasets.readable for the batches
    statistics: dict[str, DataLoader]  # PhotometricPairs; empty unless --wt_layer asks for ISW
    photometric: Photometric | None  # what training's images of grey levels, uint8, still need
    target: DataLoader | None  # TargetViews of --adapt_dataset; see `endless`
    classes: ClassTable  # of all datasets above
    files: dict[str, Inventory]  # of the training images, by dataset, and of "NAME val"


class Names(NamedTuple):
    """The datasets that a training run reads, without the dataset of nothing."""

    sources: list[str]
    val: list[str]
    statistics: list[str]
    target: list[str]  # one or none


def setup_classes(args: Namespace) -> ClassTable:
    """Return the classes of all datasets that train.py's flags name. No file is read.

    Raises UserError for unknown datasets and splits, and for datasets whose classes differ.
    """
    names = _names(args)
    classes = common_classes([name for group in names for name in group])
    for name in names.val:
        get_dataset_class(name).check_split("val", args.cv)
    for name in names.sources:
        get_dataset_class(name).check_split(_train_split(name, args.city_mode, args.source_split), args.cv)
    for name in (*names.statistics, *names.target):
        get_dataset_class(name).check_split(_train_split(name, args.city_mode), args.cv)
    return classes


def setup_loaders(args: Namespace) -> Loaders:
    """Build train.py's loaders.

    The dataset without images (null) has no loader. Raises UserError where `setup_classes` does, before any
    file is read, and for fewer training images than a batch.
    """
    names, classes = _names(args), setup_classes(args)
    shares = None
    if names.target and args.sac_weights:
        shares = distributed.from_first_rank(lambda: ClassShares(args.sac_weights))
    colors = IMAGENET
    if args.source_colors:
        colors = matched_colors(*(DATASET_COLORS[name] for name in args.source_colors))
    augment = presets.levels(_augmentation(args, colors, args.aug_device))
    options = {"max_skip": args.maxSkip, "source": True}
    opened = [_open_train(args, name, augment, **options) for name in names.sources]
    sources: list[LabelledSource] = [*opened]
    if args.cache_images:
        sources = [CachedImages(source, args.cache_images) for source in opened]
    val = _each(args, "val_dataset", names.val, _val_loader) | _own_val_loaders(args)
    statistics = _each(args, "covstat_val_dataset", names.statistics, _statistics_loader)
    if args.class_uniform_pct > 0:
        sources = [_class_uniform(args, source) for source in sources]
    for source in sources:
        if source.samples and all(sample.label is None for sample in source.samples):
            logger.warning("nothing is learnt from %s: its training images have no labels", source.name)
    dataset: Any = sources[0] if sources else Null("", "train", augment)
    steps_per_batch = 1
    if len(sources) > 1:
        dataset = (ConcatSources if args.image_uniform_sampling else OnePerDomain)(sources, seed=args.seed)
        if args.domain_steps == "separate" and not args.image_uniform_sampling:
            steps_per_batch = len(sources)
    sampler = TrainSampler(len(dataset), seed=args.seed)
    if sources and len(sampler) < args.bs_mult:
        raise UserError(
            f"{' + '.join(args.dataset)} has {len(dataset)} training images, fewer than one batch of "
            f"{args.bs_mult} on each of {sampler.world_size} processes; "
            "lower --bs_mult or --global_batch_size"
        )
    shared = _shared(args, dataset)
    train = _loader(shared, sampler, args.bs_mult, args.num_workers, seed=args.seed, drop_last=True)
    photometric = None
    if isinstance(augment, presets.DevicePreset | presets.LevelsPreset):
        photometric = augment.photometric
    target = None
    if names.target:
        target = _target_loader(args, names.target[0], len(classes), len(dataset), shares)
    targets: list[Any] = [target.dataset] if target else []
    files = {dataset.name: inventory(dataset) for dataset in (*opened, *(views.base for views in targets))}
    for name, loader in val.items():
        files[f"{name} val"] = inventory(getattr(loader.dataset, "base", loader.dataset))
    return Loaders(train, steps_per_batch, val, statistics, photometric, target, classes, files)


def setup_eval_loader(args: Namespace, name: str) -> DataLoader:
    """Build eval.py's loader of one whole image at a time, slice split_index of split_count of the split.

    Image and label are uint8, except that an image is normalized by its own mean and std (--image_in).
    An image that cannot be read is the batch {"unreadable": [reason]}; with --strict_data it is an error.
    """
    transform = presets.levels(_val_transform(name, args.image_in, args.mapillary_protocol))
    base = _open(args, name, args.split, transform, cv=args.cv_split or 0)
    dataset: Dataset = base if args.strict_data else Tolerant(base)
    indices = np.array_split(np.arange(len(base)), args.split_count)[args.split_index].tolist()
    sampler = EvalSampler(_limited(indices, args.test_mode))
    return _loader(dataset, sampler, 1, args.num_workers, collate=collate_one)


def endless(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """Yield batches epoch after epoch. Starts where the sampler is and advances it after each batch."""
    dataset: Any = loader.dataset
    sampler: Any = loader.sampler
    while True:
        dataset.set_epoch(sampler.epoch)
        for batch in loader:
            sampler.advance(loader.batch_size)
            yield batch
        sampler.set_epoch(sampler.epoch + 1)


def _shared(args: Namespace, dataset: Any) -> SharedEpoch:
    """Return the training items of `dataset`; without --strict_data, those that can be read."""
    return SharedEpoch(dataset) if args.strict_data else Replacing(dataset)


def _augmentation(args: Namespace, colors: Colors, device: str) -> Transform:
    """Return the augmentation of training images that the flags choose, normalized by `colors`."""
    if args.augmentation == "da_sac":
        operations = presets.operations(args.color_aug, args.gblur, args.bblur, tuple(args.jitter))
        return SourcePreset(
            tuple(args.crop_shape or (args.crop_size, args.crop_size)),
            Photometric(operations, args.image_in, colors),
            (args.scale_min, args.scale_max),
            args.resize_first and tuple(args.resize_first),
        )
    return presets.train(
        args.crop_size,
        scale_min=args.scale_min,
        scale_max=args.scale_max,
        pre_size=args.pre_size,
        crop_nopad=args.crop_nopad,
        rrotate=args.rrotate,
        color_aug=args.color_aug,
        gblur=args.gblur,
        bblur=args.bblur,
        jitter=tuple(args.jitter),
        image_in=args.image_in,
        colors=colors,
        aug_device=device,
    )


def _names(args: Namespace) -> Names:
    if not args.dataset:
        raise UserError("--dataset names no source domain")
    selective = Norm.ISW in args.wt_layer
    statistics = args.covstat_val_dataset if selective else []
    groups = (args.dataset, args.val_dataset, statistics)
    sources, val, statistics = ([name for name in group if name != Null.name] for group in groups)
    names = Names(sources, val, statistics, [args.adapt_dataset] if args.adapt_dataset else [])
    if selective and not names.statistics:
        raise UserError("--wt_layer asks for ISW, whose statistics need a --covstat_val_dataset")
    return names


def _train_split(name: str, city_mode: str, source_split: str = "train") -> str:
    return city_mode if name == Cityscapes.name else source_split


def _open(
    args: Namespace, name: str, split: str, transform: Transform | None, **options: Any
) -> SegmentationDataset:
    entry, dataset = variants.parse(name), get_dataset_class(name)
    opened = dataset(args.roots(dataset), split, transform, strict=args.strict_data, **options)
    if entry.corruption:
        opened.corruption = Corruption(entry.corruption, entry.severity)
    return opened


def _open_train(
    args: Namespace,
    name: str,
    transform: Transform | None,
    *,
    max_skip: int = 0,
    source: bool = False,
    **options: Any,
) -> SegmentationDataset:
    if name == Cityscapes.name:
        options["max_skip"] = max_skip
    split = _train_split(name, args.city_mode, args.source_split if source else "train")
    return _open(args, name, split, transform, cv=args.cv, seed=args.seed, **options)


def _class_uniform(args: Namespace, source: LabelledSource) -> ClassUniform:
    tile, boost = args.class_uniform_tile, None
    reading: Any = {"cache_dir": args.cache_dir, "strict": args.strict_data}
    if args.boost_classes and source.name == Cityscapes.name:
        coarse = _open(args, source.name, "train_extra", None, seed=args.seed)
        boost = ClassUniform(coarse, 0, tile, **reading), args.boost_classes
    options = {"max_epoch": args.max_cu_epoch, "boost": boost} | reading
    return ClassUniform(source, args.class_uniform_pct, tile, **options)


def _each(
    args: Namespace, flag: str, names: Sequence[str], make: Callable[[Namespace, str], DataLoader]
) -> dict[str, DataLoader]:
    """Return a loader for each dataset of a flag; MissingFile says so if nobody gave the flag."""
    try:
        return {name: make(args, name) for name in names}
    except MissingFile as error:
        if flag in args.given:
            raise
        raise MissingFile(f"{error}; {' '.join(names)} is the default of --{flag}, name another") from error


def _val_loader(args: Namespace, name: str) -> DataLoader:
    transform = _val_transform(name, args.image_in, args.mapillary_protocol)
    base = _open(args, name, "val", transform, cv=args.cv)
    dataset: Dataset = base if args.strict_data else Tolerant(base)
    sampler = EvalSampler(_limited(range(len(base)), args.test_mode))
    return _loader(dataset, sampler, args.bs_mult_val, args.num_workers, collate=collate_by_size)


def _own_val_loaders(args: Namespace) -> dict[str, DataLoader]:
    """Return the loaders of the sources' own val splits; a warning names one that is not there."""
    loaders = {}
    for name in args.own_val:
        try:
            loaders[name] = _val_loader(args, name)
        except UserError as error:
            logger.warning("%s, a source domain, is not validated: %s", name, error)
    return loaders


def _statistics_loader(args: Namespace, name: str) -> DataLoader:
    device = "gpu" if torch.cuda.is_available() else "cpu"
    base = _open_train(args, name, presets.statistics(args.image_in, device))
    sampler = StatisticsSampler(len(base), seed=args.seed)
    pairs = PhotometricPairs(base, strict=args.strict_data)
    return _loader(pairs, sampler, 1, args.num_workers, collate=collate_by_size)


def _target_loader(
    args: Namespace, name: str, num_classes: int, draws: int, shares: ClassShares | None
) -> DataLoader:
    """Load what this process has of sac_images target images, or of their views, per step.

    That is whole images, or a part of the views of one. In phase abn, which has no views, several processes
    may have the same crop, so that the statistics are those of sac_images crops. With `shares`, those of
    --sac_weights, an epoch has as many `draws` as the source has images.
    """
    rank, world_size = distributed.rank(), distributed.world_size()
    each = 1 if args.sac_phase == "abn" else args.sac_views
    own_views = max(1, args.sac_images * each // world_size)
    parts, images = max(1, world_size // args.sac_images), max(1, own_views // each)
    views: TargetCrops | TargetViews
    if args.sac_phase == "abn":
        base = _open_train(args, name, _augmentation(args, IMAGENET, "cpu"), labelled=False)
        views = TargetCrops(base)
    else:
        base = _open_train(args, name, None, labelled=False)
        views = TargetViews(base, _target_preset(args), each, (rank % parts, parts))
    options = {"seed": args.seed, "rank": rank // parts, "world_size": world_size // parts}
    if shares is not None:
        sampler: TrainSampler = ImportanceSampler(
            shares.of_images(base, num_classes),
            uniform=args.sac_uniform,
            uniform_classes=args.uniform_classes,
            draws=draws,
            **options,
        )
    else:
        sampler = TrainSampler(len(views), **options)
    if len(sampler) < images:
        raise UserError(
            f"{base.name} has {len(views)} training images, fewer than --sac_images {args.sac_images}"
        )
    return _loader(
        _shared(args, views),
        sampler,
        images,
        args.num_workers,
        seed=args.seed,
        drop_last=True,
        collate=collate_reasons,
    )


def _target_preset(args: Namespace) -> presets.TargetPreset:
    """Return the views of self-training that the flags choose."""
    return presets.target_views(
        tuple(args.sac_crop),
        args.image_in,
        scale=tuple(args.sac_scale),
        zoom=tuple(args.sac_zoom),
        blur=tuple(args.sac_blur),
        jitter=tuple(args.sac_jitter),
        gray=args.sac_gray,
    )


def _val_transform(name: str, image_in: bool, mapillary_protocol: str) -> Transform:
    return presets.val(image_in, mapillary_protocol if get_dataset_class(name) is Mapillary else "full")


def _limited(indices: Sequence[int], test_mode: bool) -> Sequence[int]:
    return indices[:TEST_MODE_IMAGES] if test_mode else indices


def _loader(
    dataset: Dataset,
    sampler: Sampler,
    batch_size: int,
    num_workers: int,
    *,
    seed: int = 0,
    drop_last: bool = False,
    collate: Callable[[list], Any] = collate,
) -> DataLoader:
    # PyTorch advises fewer workers than CPUs; distributed.init has shared the CPUs among all processes
    warnings.filterwarnings("ignore", "This DataLoader will create")
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=isinstance(dataset, SharedEpoch) and num_workers > 0,  # others see no set_epoch
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        generator=torch.Generator().manual_seed(seed),  # of the workers' seeds
        worker_init_fn=_ignore_signals,
    )


def _end_workers() -> None:
    """Kill the workers, for which Python would wait at exit although they ignore its SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises an error for a killed worker
    for process in multiprocessing.active_children():
        process.kill()


atexit.register(_end_workers)


def _ignore_signals(worker: int) -> None:
    """Leave signals to the training process, which ends its workers after it has saved."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
