"""From the command line's flags to loaders."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from datasets import NUM_CLASSES, get_dataset_class
from datasets.base import SegmentationDataset
from datasets.cache import CachedImages
from datasets.cityscapes import Cityscapes
from datasets.class_uniform import ClassUniform
from datasets.mapillary import Mapillary
from datasets.multi_source import ConcatSources, OnePerDomain, collate
from datasets.null import Null
from datasets.samplers import EvalSampler, ImportanceSampler, StatisticsSampler, TrainSampler, process_place
from datasets.views import PhotometricPairs, TargetViews
from transforms import presets
from transforms.photometric import Photometric
from utils.norms import Norm

logger = logging.getLogger("robustnet")
TEST_MODE_IMAGES = 12


class Loaders(NamedTuple):
    """Call `set_epoch` of a loader's dataset and sampler before iterating (statistics: the trial)."""

    train: DataLoader
    steps_per_batch: int  # optimizer steps; step i of n takes images i, i + n, .. of a batch
    val: dict[str, DataLoader]  # by the domain's name
    statistics: dict[str, DataLoader]  # PhotometricPairs; none unless --wt_layer asks for ISW
    photometric: Photometric | None  # what training's batches still need, with --aug_device gpu
    target: DataLoader | None  # TargetViews of --adapt_dataset; see `endless`


def setup_loaders(args) -> Loaders:
    """Build train.py's loaders; ValueError for an unknown dataset or fewer training images than a batch.

    A dataset without images (null) takes no part.
    """
    if not args.dataset:
        raise ValueError("--dataset names no source domain")
    augment = presets.train(
        args.crop_size,
        scale_min=args.scale_min,
        scale_max=args.scale_max,
        pre_size=args.pre_size,
        crop_nopad=args.crop_nopad,
        rrotate=args.rrotate,
        color_aug=args.color_aug,
        gblur=args.gblur,
        bblur=args.bblur,
        image_in=args.image_in,
        aug_device=args.aug_device,
    )
    sources = [_train_dataset(args, name, augment, max_skip=args.maxSkip) for name in _wanted(args.dataset)]
    if args.cache_images:
        sources = [CachedImages(source, args.cache_images) for source in sources]
    val = {name: _val_loader(args, name) for name in _wanted(args.val_dataset)}
    covstat = _wanted(args.covstat_val_dataset) if Norm.ISW in args.wt_layer else ()
    if Norm.ISW in args.wt_layer and not covstat:
        raise ValueError("--wt_layer asks for ISW, whose statistics need a --covstat_val_dataset")
    statistics = {name: _statistics_loader(args, name) for name in covstat}
    if args.class_uniform_pct > 0:
        sources = [_class_uniform(args, source, augment) for source in sources]
    for source in sources:
        if source.samples and all(sample.label is None for sample in source.samples):
            logger.warning("nothing is learnt from %s: its training images have no labels", source.name)
    dataset, steps_per_batch = sources[0] if sources else Null("", "train", augment), 1
    if len(sources) > 1:
        dataset = (ConcatSources if args.image_uniform_sampling else OnePerDomain)(sources, seed=args.seed)
        if args.domain_steps == "separate" and not args.image_uniform_sampling:
            steps_per_batch = len(sources)
    sampler = TrainSampler(len(dataset), seed=args.seed)
    if sources and len(sampler) < args.bs_mult:
        raise ValueError(
            f"{' + '.join(args.dataset)} has {len(dataset)} training images, fewer than one batch of "
            f"{args.bs_mult} on each of {sampler.world_size} processes; "
            "lower --bs_mult or --global_batch_size"
        )
    train = _loader(args, dataset, sampler, args.bs_mult, seed=args.seed, drop_last=True)
    photometric = augment.photometric if args.aug_device == "gpu" else None
    target = _target_loader(args) if args.adapt_dataset else None
    return Loaders(train, steps_per_batch, val, statistics, photometric, target)


def endless(loader: DataLoader) -> Iterator[dict]:
    """Yield batches epoch after epoch, from where the sampler stands, which is moved past each."""
    while True:
        loader.dataset.set_epoch(loader.sampler.epoch)
        for batch in loader:
            loader.sampler.advance(loader.batch_size)
            yield batch
        loader.sampler.set_epoch(loader.sampler.epoch + 1)


def setup_eval_loader(args, name: str) -> DataLoader:
    """Build eval.py's loader of one whole image at a time, slice split_index of split_count of the split."""
    dataset = _dataset(args, name, args.split, _val_transform(args, name), cv=args.cv_split or 0)
    indices = np.array_split(np.arange(len(dataset)), args.split_count)[args.split_index].tolist()
    return _loader(args, dataset, EvalSampler(_limit(args, indices)), 1)


def _wanted(names: list[str]) -> list[str]:
    """Return `names` without the dataset of nothing."""
    return [name for name in names if name != Null.name]


def _dataset(args, name: str, split: str, transform, **options) -> SegmentationDataset:
    root = args.roots.get(name, "")  # null has none
    return get_dataset_class(name)(root, split, transform, strict=args.strict_data, **options)


def _train_dataset(args, name: str, transform, *, max_skip: int = 0, **options) -> SegmentationDataset:
    options |= {"cv": args.cv, "seed": args.seed}
    if name == Cityscapes.name:
        return _dataset(args, name, args.city_mode, transform, max_skip=max_skip, **options)
    return _dataset(args, name, "train", transform, **options)


def _class_uniform(args, source: SegmentationDataset, transform) -> ClassUniform:
    tile, boost = args.class_uniform_tile, None
    if args.boost_classes and source.name == Cityscapes.name:
        coarse = _dataset(args, source.name, "train_extra", transform, seed=args.seed)
        boost = ClassUniform(coarse, 0, tile, cache_dir=args.cache_dir), args.boost_classes
    options = {"max_epoch": args.max_cu_epoch, "cache_dir": args.cache_dir, "boost": boost}
    return ClassUniform(source, args.class_uniform_pct, tile, **options)


def _val_transform(args, name: str):
    return presets.val(args.image_in, args.mapillary_protocol if name == Mapillary.name else "full")


def _limit(args, indices):
    return indices[:TEST_MODE_IMAGES] if args.test_mode else indices


def _loader(
    args, dataset, sampler, batch_size: int, *, seed: int = 0, drop_last: bool = False, collate=collate
) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=args.num_workers,  # not persistent: they are started by iter(), so they see set_epoch
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        generator=torch.Generator().manual_seed(seed),  # of the workers' seeds
    )


def _val_loader(args, name: str) -> DataLoader:
    dataset = _dataset(args, name, "val", _val_transform(args, name), cv=args.cv)
    return _loader(args, dataset, EvalSampler(_limit(args, range(len(dataset)))), args.bs_mult_val)


def _statistics_loader(args, name: str) -> DataLoader:
    base = _train_dataset(args, name, presets.statistics(args.image_in))
    return _loader(args, PhotometricPairs(base), StatisticsSampler(len(base), seed=args.seed), 1)


def _target_loader(args) -> DataLoader:
    """Load this process's share of sac_images groups of views: whole groups, or a part of one."""
    rank, world_size = process_place(None, None)
    share = args.sac_images * args.sac_views // world_size
    parts, images = max(1, args.sac_views // share), max(1, share // args.sac_views)
    base = _train_dataset(args, args.adapt_dataset, None, labelled=False)
    preset = presets.target_views(tuple(args.sac_crop), args.image_in)
    views = TargetViews(base, preset, args.sac_views, (rank % parts, parts))
    place = {"rank": rank // parts, "world_size": world_size // parts}
    if args.sac_weights:
        sampler = ImportanceSampler(_class_shares(args.sac_weights, base), seed=args.seed, **place)
    else:
        sampler = TrainSampler(len(views), seed=args.seed, **place)
    if len(sampler) < images:
        raise ValueError(
            f"{base.name} has {len(views)} training images, fewer than --sac_images {args.sac_images}"
        )
    return _loader(args, views, sampler, images, seed=args.seed, drop_last=True, collate=default_collate)


def _class_shares(file: str, dataset: SegmentationDataset) -> np.ndarray:
    """Read shares (K, images) of scripts.class_weights; ValueError if an image is not in the file."""
    table = json.loads(Path(file).read_text())
    names = [dataset.name_of(sample) for sample in dataset.samples]
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"{len(missing)} of {len(names)} images are not in {file}: {missing[0]}")
    return np.array([[table[name].get(str(c), 0.0) for name in names] for c in range(NUM_CLASSES)])
