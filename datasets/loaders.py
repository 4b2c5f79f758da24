"""From the command line's flags to loaders."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from datasets import get_dataset_class
from datasets.base import SegmentationDataset
from datasets.cache import CachedImages
from datasets.class_uniform import ClassUniform
from datasets.multi_source import ConcatSources, OnePerDomain, collate
from datasets.samplers import EvalSampler, StatisticsSampler, TrainSampler
from datasets.views import PhotometricPairs
from transforms import presets
from transforms.photometric import Photometric

TEST_MODE_IMAGES = 12
ISW_CODE = 2


class Loaders(NamedTuple):
    """Call `set_epoch` of a loader's dataset and sampler before iterating (statistics: the trial)."""

    train: DataLoader
    train_sampler: TrainSampler
    val: dict[str, DataLoader]  # by the domain's name
    statistics: dict[str, DataLoader]  # PhotometricPairs; none unless --wt_layer asks for ISW
    photometric: Photometric | None  # what training's batches still need, with --aug_device gpu


def setup_loaders(args) -> Loaders:
    """Build train.py's loaders; ValueError for an unknown dataset or fewer training images than a batch."""
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
    sources = [_train_dataset(args, name, augment) for name in args.dataset]
    if args.cache_images:
        sources = [CachedImages(source, args.cache_images) for source in sources]
    val = {name: _val_loader(args, name) for name in args.val_dataset}
    covstat = args.covstat_val_dataset if ISW_CODE in args.wt_layer else ()
    statistics = {name: _statistics_loader(args, name) for name in covstat}
    if args.class_uniform_pct > 0:
        options = {"max_epoch": args.max_cu_epoch, "cache_dir": args.cache_dir}
        tile = args.class_uniform_tile
        sources = [ClassUniform(source, args.class_uniform_pct, tile, **options) for source in sources]
    dataset = sources[0]
    if len(sources) > 1:
        dataset = (ConcatSources if args.image_uniform_sampling else OnePerDomain)(sources, seed=args.seed)
    sampler = TrainSampler(len(dataset), seed=args.seed)
    if len(sampler) < args.bs_mult:
        raise ValueError(
            f"{' + '.join(args.dataset)} has {len(dataset)} training images, fewer than one batch of "
            f"{args.bs_mult} on each of {sampler.world_size} processes; lower --bs_mult"
        )
    train = _loader(args, dataset, sampler, args.bs_mult, seed=args.seed, drop_last=True)
    photometric = augment.photometric if args.aug_device == "gpu" else None
    return Loaders(train, sampler, val, statistics, photometric)


def setup_eval_loader(args, name: str) -> DataLoader:
    """Build eval.py's loader of one whole image at a time, slice split_index of split_count of the split."""
    if not 0 <= args.split_index < args.split_count:
        raise ValueError(f"--split_index {args.split_index} is not one of 0..{args.split_count - 1}")
    dataset = _dataset(args, name, args.split, presets.val(args.image_in), cv=args.cv_split or 0)
    indices = np.array_split(np.arange(len(dataset)), args.split_count)[args.split_index].tolist()
    return _loader(args, dataset, EvalSampler(_limit(args, indices)), 1)


def _dataset(args, name: str, split: str, transform, *, cv: int, seed: int = 0) -> SegmentationDataset:
    dataset_class = get_dataset_class(name)
    options = {"cv": cv} if name == "cityscapes" else {}
    return dataset_class(args.roots[name], split, transform, seed=seed, strict=args.strict_data, **options)


def _train_dataset(args, name: str, transform) -> SegmentationDataset:
    split = args.city_mode if name == "cityscapes" else "train"
    return _dataset(args, name, split, transform, cv=args.cv, seed=args.seed)


def _limit(args, indices):
    return indices[:TEST_MODE_IMAGES] if args.test_mode else indices


def _loader(args, dataset, sampler, batch_size: int, *, seed: int = 0, drop_last: bool = False) -> DataLoader:
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
    dataset = _dataset(args, name, "val", presets.val(args.image_in), cv=args.cv)
    return _loader(args, dataset, EvalSampler(_limit(args, range(len(dataset)))), args.bs_mult_val)


def _statistics_loader(args, name: str) -> DataLoader:
    base = _train_dataset(args, name, presets.statistics(args.image_in))
    return _loader(args, PhotometricPairs(base), StatisticsSampler(len(base), seed=args.seed), 1)
