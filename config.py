"""The command line: every flag of train.py and eval.py in titled groups, and where the datasets live.

Names, types and defaults are those of the published code wherever it had the flag; see README, "Differences".
Each group of flags is one function with its flags and, next to it, one with its checks. All are in one file,
because many checks compare flags of different groups, and so a flag is found in one place.
"""

import argparse
import math
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from utils import variants
from utils.classes import IGNORE_LABEL
from utils.errors import UserError
from utils.norms import CODES, POSITIONS, Norm
from utils.parser import Parser

# Dataset roots. An environment variable of the same name overrides each, --data_root DIR all (DIR/NAME).
# A dataset without a line here is at data/NAME.
CITYSCAPES_DIR = "data/cityscapes"
GTAV_DIR = "data/gtav"
BDD_DIR = "data/bdd100k"
SYNTHIA_DIR = "data/synthia"
MAPILLARY_DIR = "data/mapillary"
CAMVID_DIR = "data/camvid"
KITTI_DIR = "data/kitti"
FOLDER_DIR = "data/folder"

COLORED = ("gtav", "cityscapes")  # datasets whose colours utils/pixels.py knows
MOST_BINS = 1000  # of --calibration
TEST_MODE_ITERATIONS = 7  # of each epoch
INFERENCE_MODES = ("sliding", "pooling", "whole")
NULL_NAMES = ("null", "null_loader")  # of the dataset without images
NO_EFFECT = "accepted, no effect"
Idle = dict[str, list[str]]  # flags that have no effect, by the reason: "with --adam" -> ["momentum"]


class HasRoot(Protocol):
    """A dataset class: its name, the name of the environment variable or constant with its root, and the
    folder of the root below a folder of datasets, "" where that is the name.
    """

    @property
    def name(self) -> str: ...

    @property
    def root_variable(self) -> str: ...

    @property
    def root_name(self) -> str: ...


@dataclass
class Roots:
    """The folders of the datasets; `roots(dataset)` is that of one dataset class.

    It is the first of: `folders[NAME]`, DATA_ROOT/NAME, the environment variable `root_variable`, the
    constant of that name in this file, data/NAME. The last two are relative to the working directory, or to
    the folder of this file if they are only there. Datasets that share their files have one `root_name`,
    which replaces NAME in the paths.
    """

    data_root: str | Path | None = None
    folders: dict[str, Path] = field(default_factory=dict)

    def __call__(self, dataset: HasRoot) -> Path:
        name, variable = dataset.name, dataset.root_variable
        if name in self.folders:
            return self.folders[name]
        folder = dataset.root_name or name
        if self.data_root:
            return Path(self.data_root, folder)
        if os.environ.get(variable):
            return Path(os.environ[variable])
        root = Path(globals().get(variable) or f"data/{folder}")
        beside = Path(__file__).parent / root
        return beside if beside.exists() and not root.exists() else root


def parse_train_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the flags of train.py; see `complete` for what the number of processes decides.

    Adds `roots`, `given` (names of the flags on the command line), `strict_classes` and `boost_classes`.
    Raises UserError for a value that cannot work. Flags without effect are listed in one warning.
    """
    args = _parse("train", argv)
    checks = (
        _check_source_data,
        _check_augmentation,
        _check_start,
        _check_whitening,
        _check_adaptation,
        _check_main_loss,
        _check_optimization,
        _check_speed,
        _check_train_launch,
    )
    idle = []
    for check in checks:
        idle.append(check(args))
    _warn_of_idle(args, idle)
    return args


def complete(args: argparse.Namespace, world_size: int, num_classes: int) -> argparse.Namespace:
    """Return `args` with what only the started program knows: bs_mult, the images per process and domain.

    Raises UserError if a batch cannot be divided among the processes, or a train id is not a class.
    """
    args = argparse.Namespace(**vars(args))
    if args.global_batch_size is not None:
        shares = world_size * _domains_per_sample(args)
        if args.global_batch_size < 1 or args.global_batch_size % shares:
            raise UserError(
                f"--global_batch_size {args.global_batch_size} cannot be divided among {world_size} "
                f"processes with {_domains_per_sample(args)} domains each; use a multiple of {shares}"
            )
        args.bs_mult = args.global_batch_size // shares
    if args.adapt_dataset and args.sac_phase == "abn":
        if args.sac_images % world_size and world_size % args.sac_images:
            raise UserError(
                f"--sac_images {args.sac_images} cannot be divided among {world_size} processes; each needs "
                "an equal part of the images, or an equal part of the processes shares each image"
            )
    elif args.adapt_dataset:
        views, images = args.sac_views, args.sac_images
        share, rest = divmod(views * images, world_size)
        if rest or (share % views and views % share):
            raise UserError(
                f"--sac_images {images} of --sac_views {views} cannot be divided among {world_size} "
                "processes; each process needs whole images, or an equal part of the views of one image"
            )
    chosen = {
        "strict_bdr_cls": args.strict_classes,
        "coarse_boost_classes": args.boost_classes,
        "sac_uniform_classes": args.uniform_classes,
    }
    for flag, ids in chosen.items():
        if beyond := [i for i in ids if i >= num_classes]:
            raise UserError(f"--{flag} takes train ids 0..{num_classes - 1}, not {beyond[0]}")
    return args


def images_per_step(args: argparse.Namespace, world_size: int) -> int:
    """Return the number of training images of one iteration, over all processes and domains."""
    return args.bs_mult * world_size * _domains_per_sample(args)


def epoch_steps(args: argparse.Namespace, batches: int) -> int:
    """Return how many of the `batches` of an epoch are trained on."""
    return min(batches, TEST_MODE_ITERATIONS) if args.test_mode else batches


def last_iteration(args: argparse.Namespace, batches: int) -> int:
    """Return the iteration at which --max_iter or --max_epoch ends a training with epochs of `batches`."""
    return min(args.max_iter, args.max_epoch * epoch_steps(args, batches) if args.max_epoch else math.inf)


def statistics_due(args: argparse.Namespace, epoch: int) -> bool:
    """Whether ISW masks are estimated after `epoch`: once, or (--dynamic) every cov_stat_epoch + 1 epochs."""
    if args.dynamic:
        return epoch % (args.cov_stat_epoch + 1) == args.cov_stat_epoch
    return epoch == args.cov_stat_epoch


def images_per_sample(args: argparse.Namespace) -> int:
    """Return how many images of a sample one step sees: one per source domain, if it sees all domains."""
    return 1 if args.domain_steps == "separate" else _domains_per_sample(args)


def _domains_per_sample(args: argparse.Namespace) -> int:
    """Return how many images one sample has: one per source domain, unless the domains are concatenated."""
    sources = [name for name in args.dataset if name != "null"]
    return 1 if args.image_uniform_sampling else max(1, len(sources))


def parse_eval_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the flags of eval.py; `val_dataset` is the list of datasets and `scales` a list of numbers.

    Adds `roots` and `given` (names of the flags on the command line). Raises UserError for a value that
    cannot work. Flags without effect are listed in one warning.
    """
    args = _parse("eval", argv)
    checks = _check_scored_data, _check_corruptions, _check_inference, _check_measures, _check_records
    _warn_of_idle(args, [check(args) for check in checks])
    args.pretrained = "none"
    return args


def _parse(program: str, argv: list[str] | None) -> argparse.Namespace:
    args = get_parser(program).parse_args(argv)
    bare = get_parser(program)  # without defaults it sets only the flags that are given
    for action in bare._actions:
        action.default = argparse.SUPPRESS
    args.given = set(vars(bare.parse_args(argv)))
    args.roots = Roots(args.data_root)
    for name in ("dataset", "val_dataset", "covstat_val_dataset"):
        names = getattr(args, name, None)
        if isinstance(names, list):
            setattr(args, name, ["null" if n in NULL_NAMES else n for n in names])
    return args


def _warn_of_idle(args: argparse.Namespace, checked: list[Idle]) -> None:
    """Warn once of all given flags that have no effect."""
    program = "train" if "lr" in args else "eval"
    unused = [a.dest for a in _actions(program, NO_EFFECT)]
    reasons: Idle = {}
    for idle in [*checked, {"which is accepted only for old scripts": unused}]:
        for reason, names in idle.items():
            reasons.setdefault(reason, []).extend(f"--{name}" for name in names if name in args.given)
    texts = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items() if names]
    if texts:
        warnings.warn(f"flags without effect: {'; '.join(texts)}", stacklevel=3)


def _actions(program: str, title: str) -> list[argparse.Action]:
    """Return the flags of a titled group."""
    return [
        action
        for group in get_parser(program)._action_groups
        if group.title == title
        for action in group._group_actions
    ]


def get_parser(program: str) -> Parser:
    """Return the parser of `program`, "train" or "eval"."""
    parser = Parser(
        usage="%(prog)s [--FLAG VALUE ...]",
        description=f"{program}.py: domain generalization in urban-scene segmentation",
    )
    groups = {
        "train": (
            _source_data,
            _augmentation,
            _start,
            _whitening,
            _adaptation,
            _main_loss,
            _optimization,
            _speed,
            _train_records,
            _data_paths,
            _layers,
            _launch,
            _train_no_effect,
        ),
        "eval": (
            _scored_data,
            _corruptions,
            _checkpoint,
            _inference,
            _measures,
            _eval_records,
            _data_paths,
            _layers,
            _launch,
            _eval_no_effect,
        ),
    }
    for add_group in groups[program]:
        add_group(parser)
    return parser


# Checks that several groups share


def _at_least(args: argparse.Namespace, least: float, *names: str) -> None:
    """Raise UserError unless every flag that has a value is a finite number of at least `least`."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not least <= value < math.inf:
            raise UserError(f"--{name} must be at least {least}, not {value}")


def check_workers(flag: str, number: int, least: int = 0) -> None:
    """Raise UserError for a number of loaders, the value of `flag`, that would bring the machine down."""
    cores = os.cpu_count() or 1
    most = max(64, 8 * cores)
    if not least <= number <= most:
        raise UserError(
            f"{flag} must be from {least} to {most} on this machine of {cores} cores, not {number}"
        )


def _above_zero(args: argparse.Namespace, *names: str) -> None:
    """Raise UserError unless every flag that has a value is a finite number above 0."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} must be a finite number above 0, not {value}")


def _train_ids(flag: str, text: str) -> tuple[int, ...]:
    ids = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not all(entry.isdecimal() and int(entry) < IGNORE_LABEL for entry in ids):
        raise UserError(f"{flag} takes train ids separated by commas, not {text!r}")
    return tuple(map(int, ids))


# Flags of both programs


def _data_paths(parser: Parser) -> None:
    group = parser.add_argument_group("where the data is")
    add = group.add_argument
    add("--data_root", help="folder that holds the datasets by name: cityscapes, gtav, ...")
    add("--strict_data", action="store_true", help="stop at an unusable image instead of skipping it")
    add(
        "--mapillary_protocol",
        choices=("legacy", "full", "half"),
        default="full",
        help="Mapillary validation: whole images, at half size, or (legacy) the middle square at height 1536",
    )
    add("--cache_dir", help="folder of derived files (class centroids); default: next to the data")
    add(
        "--image_in",
        action="store_true",
        help="normalize each image by its own channel mean and std instead of ImageNet's",
    )


def _layers(parser: Parser) -> None:
    parser.add_argument_group("layers").add_argument(
        "--wt_layer",
        nargs="*",
        type=int,
        default=[0] * 7,
        help=f"seven codes, for the stem (0 to 2) and layer1 to layer4: {CODES}; 1 is "
        "IRW unless --relax_denom is 0",
    )


def _check_layers(args: argparse.Namespace) -> None:
    if len(args.wt_layer) != POSITIONS or not set(args.wt_layer) <= set(Norm):
        raise UserError(f"--wt_layer takes {POSITIONS} codes of {CODES}, not {args.wt_layer}")


def _launch(parser: Parser) -> None:
    add = parser.add_argument_group("launch").add_argument
    add("--local_rank", "--local-rank", type=int, default=0, help="set by torch.distributed.launch")
    add(
        "--test_mode",
        action="store_true",
        help="a short run: 2 epochs of 7 training iterations, 12 validation images",
    )


def _check_train_launch(args: argparse.Namespace) -> Idle:
    """Shorten the run for --test_mode."""
    if not args.test_mode:
        return {}
    args.max_epoch, args.cov_stat_epoch, args.trials = 2, 0, min(args.trials, 2)
    return {"with --test_mode": ["max_epoch", "cov_stat_epoch"]}


# Flags of train.py


def _source_data(parser: Parser) -> None:
    add = parser.add_argument_group("data").add_argument
    add("--dataset", nargs="*", type=str, default=["cityscapes"], help="source domains")
    add(
        "--image_uniform_sampling",
        action="store_true",
        help="concatenate the source domains instead of drawing one image of each",
    )
    add(
        "--domain_steps",
        choices=("joint", "separate"),
        default="joint",
        help="one optimizer step for a batch of all domains, or one for each domain (published)",
    )
    add(
        "--val_dataset",
        nargs="*",
        type=str,
        default=["bdd100k"],
        help="datasets to validate, and at the end the source domains' own val splits; null for none",
    )
    add(
        "--val_every",
        type=int,
        help="validate after every N epochs, and always at the end; default: as often as takes less than 5%% "
        "of the time",
    )
    add(
        "--covstat_val_dataset",
        nargs="*",
        type=str,
        default=["cityscapes"],
        help="ISW: domains whose training images the statistics come from; usually the same as --dataset",
    )
    add("--city_mode", type=str, default="train", help="Cityscapes training split: train or trainval")
    add(
        "--source_split",
        choices=("train", "da_sac"),
        default="train",
        help="training images of gtav and synthia: those of RobustNet (train) or of DA-SAC (9,000; 9,400)",
    )
    add("--cv", type=int, default=0, help="Cityscapes cross-validation split by cities, 0..2")
    add(
        "--class_uniform_pct",
        type=float,
        default=0,
        help="share of an epoch, 0 to 1, whose crops show the classes equally often",
    )
    add(
        "--class_uniform_tile",
        type=int,
        default=1024,
        help="side of the tiles of an image, px; a class-uniform crop contains a tile's class centroid",
    )
    add(
        "--coarse_boost_classes",
        type=str,
        help="Cityscapes: train ids (3,4) whose centroids also come from the coarse set",
    )
    add(
        "--maxSkip",
        type=int,
        default=0,
        help="Cityscapes: add to each training image the video frames this many ids before and after",
    )
    add("--max_cu_epoch", type=int, default=100000, help="no class-uniform sampling from this epoch on")
    add("--cache_images", help="folder in which training images are kept decoded (8 MB each)")
    add("--num_workers", type=int, default=4, help="loader processes per training process")


def _check_source_data(args: argparse.Namespace) -> Idle:
    """Check the data flags and set `boost_classes`, the train ids of --coarse_boost_classes."""
    if not args.dataset:
        raise UserError("--dataset needs at least one source domain, or null")
    _at_least(args, 1, "class_uniform_tile")
    _at_least(args, 0, "maxSkip", "max_cu_epoch")
    check_workers("--num_workers", args.num_workers)
    if not 0 <= args.class_uniform_pct <= 1:
        raise UserError(f"--class_uniform_pct must be a share from 0 to 1, not {args.class_uniform_pct}")
    if not 0 <= args.cv <= 2:
        raise UserError(f"--cv must be 0, 1 or 2, not {args.cv}")
    args.boost_classes = _train_ids("--coarse_boost_classes", args.coarse_boost_classes or "")
    if args.boost_classes and (args.class_uniform_pct <= 0 or "cityscapes" not in args.dataset):
        raise UserError(
            "--coarse_boost_classes adds to the class-uniform sampling of cityscapes; it needs "
            "--class_uniform_pct above 0 and cityscapes in --dataset"
        )
    if args.maxSkip and "cityscapes" not in args.dataset:
        raise UserError("--maxSkip adds video frames of cityscapes; it needs cityscapes in --dataset")
    idle: Idle = {}
    if args.class_uniform_pct == 0:
        idle["without --class_uniform_pct"] = ["class_uniform_tile", "max_cu_epoch"]
    if len(args.dataset) < 2:
        idle["with one source domain"] = ["image_uniform_sampling", "domain_steps"]
    elif args.image_uniform_sampling:
        idle["with --image_uniform_sampling"] = ["domain_steps"]
    if "cityscapes" not in {*args.dataset, *args.val_dataset, *args.covstat_val_dataset, args.adapt_dataset}:
        idle["without cityscapes"] = ["city_mode", "cv"]
    if "mapillary" not in args.val_dataset:
        idle["without mapillary"] = ["mapillary_protocol"]
    return idle


def _augmentation(parser: Parser) -> None:
    add = parser.add_argument_group("augmentation").add_argument
    add("--crop_size", type=int, default=720, help="training crop, px")
    add(
        "--crop_nopad",
        action="store_true",
        help="shrink the crop to a small image and resize, instead of padding",
    )
    add("--pre_size", type=int, help="first scale the shorter edge to this, px; default: leave it")
    add(
        "--augmentation",
        choices=("robustnet", "da_sac"),
        default="robustnet",
        help="da_sac: bilinear, colours before padding, padding 0 after normalization, a crop of any shape",
    )
    add(
        "--crop_shape",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="da_sac: crop of this height and width, px; default: a square of --crop_size",
    )
    add("--resize_first", nargs=2, type=int, metavar=("H", "W"), help="da_sac: size before scaling, px")
    add(
        "--source_colors",
        nargs=2,
        choices=COLORED,
        metavar=("FROM", "TO"),
        help="normalize source images so that the colours of dataset FROM become those of TO",
    )
    add("--scale_min", type=float, default=0.5, help="smallest factor of the random scale")
    add("--scale_max", type=float, default=2.0, help="largest factor of the random scale")
    add("--rrotate", type=int, default=0, help="rotate uniformly in +- this many degrees")
    add(
        "--color_aug",
        type=float,
        default=0.0,
        help="above 0: jitter brightness, contrast, saturation and hue, always by the same strength",
    )
    add(
        "--jitter",
        nargs=2,
        type=float,
        default=[0.4, 0.1],
        metavar=("STRENGTH", "HUE"),
        help="of --color_aug: strength of brightness, contrast and saturation, largest shift of the hue",
    )
    add("--gblur", action="store_true", help="Gaussian blur")
    add("--bblur", action="store_true", help="bilateral blur instead of Gaussian")
    add(
        "--aug_device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="where jitter, blur and normalization run: in the loaders (cpu) or on the training device",
    )
    add(
        "--dump_augmentation_images",
        action="store_true",
        help="write the first augmented batch of every epoch next to the checkpoints",
    )


def _check_augmentation(args: argparse.Namespace) -> Idle:
    _at_least(args, 1, "crop_size", "pre_size")
    _at_least(args, 0, "color_aug")
    if not 0 <= args.rrotate <= 180:
        raise UserError(f"--rrotate must be an angle from 0 to 180 degrees, not {args.rrotate}")
    if not 0 < args.scale_min <= args.scale_max < math.inf:
        raise UserError(
            "scales are drawn from [--scale_min, --scale_max]; "
            f"expected 0 < scale_min <= scale_max, not {args.scale_min} and {args.scale_max}"
        )
    if min(args.jitter) < 0 or args.jitter[1] > 0.5:
        raise UserError(f"--jitter takes a strength of at least 0 and a hue of 0 to 0.5, not {args.jitter}")
    idle: Idle = {"with --bblur": ["gblur"]} if args.bblur else {}
    if args.color_aug == 0:
        idle["without --color_aug"] = ["jitter"]
    if args.image_in:
        idle["with --image_in"] = ["source_colors"]
    idle |= _check_da_sac(args)
    if args.bblur and args.aug_device == "gpu":
        raise UserError("--bblur runs only on the CPU; leave out --aug_device gpu")
    return idle


def _check_da_sac(args: argparse.Namespace) -> Idle:
    """Check the flags of --augmentation da_sac."""
    if args.augmentation != "da_sac":
        return {"without --augmentation da_sac": ["crop_shape", "resize_first"]}
    for name in ("crop_shape", "resize_first"):
        if (sides := getattr(args, name)) and min(sides) < 1:
            raise UserError(f"--{name} takes a height and a width of at least 1 px, not {sides}")
    wanted = ("class_uniform_pct", "crop_nopad", "pre_size", "rrotate")
    if impossible := [f"--{name}" for name in wanted if getattr(args, name)]:
        raise UserError(f"--augmentation da_sac has no {', '.join(impossible)}; leave out one of them")
    if args.aug_device == "gpu":
        raise UserError("--augmentation da_sac runs only on the CPU; leave out --aug_device gpu")
    return {"with --crop_shape": ["crop_size"]} if args.crop_shape else {}


def _start(parser: Parser) -> None:
    add = parser.add_argument_group("network and start").add_argument
    add("--arch", default="DeepR50V3PlusD", type=str, help="network, as NAME or network.deepv3.NAME")
    add("--pretrained", default="imagenet", help="imagenet, none, or a file of backbone weights")
    add(
        "--snapshot",
        type=str,
        help="checkpoint whose weights training starts from, or a run's folder for its newest one",
    )
    add(
        "--resume",
        metavar="auto|PATH",
        help="continue a run in its own folder: its checkpoint or folder, or (auto) the newest sound "
        "checkpoint of --date and --exp; auto starts a new run if there is none",
    )
    add(
        "--restore_optimizer",
        action="store_true",
        help="continue the --snapshot run: optimizer, schedule, epoch, whitening masks",
    )
    add(
        "--freeze_trunk",
        action="store_true",
        help="train only the head; the backbone's weights stay as they are",
    )


def _check_start(args: argparse.Namespace) -> Idle:
    """Check the start flags; a snapshot replaces pretrained weights."""
    _check_layers(args)
    if args.snapshot:
        args.pretrained = "none"
        return {"with --snapshot": ["pretrained"]}
    if args.restore_optimizer:
        raise UserError("--restore_optimizer continues a run; name its checkpoint with --snapshot")
    return {}


def _whitening(parser: Parser) -> None:
    add = parser.add_argument_group("whitening").add_argument
    add("--wt_reg_weight", type=float, default=0.0, help="weight of the whitening loss; 0 trains without it")
    add(
        "--relax_denom",
        type=float,
        default=2.0,
        help="code 1: 0 is IW; above 0 is IRW, in which a mean |covariance| up to 1 / this costs nothing "
        "(published: 64 from GTAV, 32 from Cityscapes); code 2 (ISW) does not use it",
    )
    add(
        "--clusters",
        type=int,
        default=50,
        help="ISW: number of clusters into which the variances of the covariances are divided",
    )
    add(
        "--trials",
        type=int,
        default=10,
        help="ISW: how often a mask is estimated, each time from up to 500 images of each of "
        "--covstat_val_dataset; a covariance must be selected in all",
    )
    add(
        "--cov_stat_epoch",
        type=int,
        default=5,
        help="ISW: masks are estimated after this epoch, counted from 0; until then the loss is 0",
    )
    add(
        "--dynamic",
        action="store_true",
        help="ISW: take the statistics again every cov_stat_epoch + 1 epochs",
    )


def _check_whitening(args: argparse.Namespace) -> Idle:
    _at_least(args, 0, "wt_reg_weight", "relax_denom", "cov_stat_epoch")
    idle: Idle = {}
    if not {Norm.IW, Norm.ISW} & set(args.wt_layer):
        idle["without code 1 in --wt_layer"] = ["relax_denom"]
    if Norm.IW in args.wt_layer and args.relax_denom and "relax_denom" not in args.given:
        warnings.warn(
            f"--wt_layer code 1 with the default --relax_denom {args.relax_denom:g} is IRW, and a mean "
            f"|covariance| up to {1 / args.relax_denom:g} costs nothing, which is nearly always so; IW was "
            "published with 0, IRW with 64 from GTAV and 32 from Cityscapes",
            stacklevel=3,
        )
    if Norm.ISW not in args.wt_layer:
        idle["without code 2 in --wt_layer"] = [
            *("clusters", "trials", "cov_stat_epoch", "dynamic", "covstat_val_dataset")
        ]
        if Norm.IW not in args.wt_layer:
            idle["without code 1 or 2 in --wt_layer"] = ["wt_reg_weight"]
        return idle
    if min(args.trials, args.clusters - 1) < 1:
        raise UserError(
            "--wt_layer asks for ISW, which needs --trials of at least 1 and --clusters of at least 2, "
            f"not {args.trials} and {args.clusters}"
        )
    if args.relax_denom and Norm.IW not in args.wt_layer:
        warnings.warn(
            f"ISW (code 2) selects by k-means, with --relax_denom {args.relax_denom:g} as with 0; "
            "the published code does so only with --relax_denom 0",
            stacklevel=3,
        )
    if unseen := set(args.covstat_val_dataset) - set(args.dataset):
        warnings.warn(
            f"the ISW statistics come from {', '.join(sorted(unseen))}, which is not trained on; "
            "name the training domains with --covstat_val_dataset",
            stacklevel=3,
        )
    return idle


def _adaptation(parser: Parser) -> None:
    add = parser.add_argument_group("adaptation to an unlabelled target domain (DA-SAC)").add_argument
    add("--adapt_dataset", help="target domain, whose training images are used without labels")
    add(
        "--sac_phase",
        choices=("abn", "sac"),
        default="sac",
        help="abn: batch norm adapts to target images; sac: self-training from the weights of --snapshot",
    )
    add("--sac_views", type=int, default=4, help="views of one target image")
    add("--sac_images", type=int, default=2, help="target images per step, over all processes")
    add("--sac_crop", nargs=2, type=int, default=[512, 1024], metavar=("H", "W"), help="size of a view, px")
    add(
        "--sac_scale",
        nargs=2,
        type=float,
        default=[1.0, 1.1],
        metavar=("MIN", "MAX"),
        help="factor by which a target image is larger than a view, uniform",
    )
    add(
        "--sac_zoom",
        nargs=2,
        type=float,
        default=[0.5, 1.0],
        metavar=("MIN", "MAX"),
        help="share of the sides that views after the first show, uniform",
    )
    add(
        "--sac_blur",
        nargs=2,
        type=float,
        default=[0.1, 2.0],
        metavar=("MIN", "MAX"),
        help="radius of Pillow's blur of the student's views, px, uniform",
    )
    add(
        "--sac_jitter",
        nargs=2,
        type=float,
        default=[0.4, 0.1],
        metavar=("STRENGTH", "HUE"),
        help="jitter of half of the student's views, as --jitter",
    )
    add("--sac_gray", type=float, default=0.2, help="share of the student's views that lose their colours")
    add("--sac_weight", type=float, default=5.0, help="weight of the target domain's loss")
    add("--sac_conf_upper", type=float, default=0.75, help="threshold, as a share of the highest confidence")
    add("--sac_conf_lower", type=float, default=0.2, help="least confidence of a pseudo label")
    add(
        "--sac_beta", type=float, default=1e-3, help="thresholds are lower for classes with a prior near this"
    )
    add("--sac_focal_power", type=float, default=3.0, help="class weights are (1 - prior) to this power")
    add("--sac_prior_momentum", type=float, default=0.99, help="momentum of the class prior")
    add("--sac_teacher_momentum", type=float, default=0.99, help="momentum of the teacher")
    add("--sac_teacher_every", type=int, default=100, help="iterations between updates of the teacher")
    add(
        "--sac_published_loss",
        action="store_true",
        help="as published, each view's loss times every view's confidence, not times its own",
    )
    add("--sac_weights", help="file of scripts.class_weights: draws rare classes more often")
    add("--sac_uniform", type=float, default=0.25, help="sac_weights: share of draws that ignore the classes")
    add(
        "--sac_uniform_classes",
        default="",
        help="sac_weights: train ids (9,14,16) whose turns draw all images equally often",
    )
    add(
        "--select_on",
        nargs="*",
        help="validation datasets whose best checkpoint is kept as best_...; default: the only source "
        "domain, or none with several source domains or while adapting",
    )


def _check_adaptation(args: argparse.Namespace) -> Idle:
    """Check the flags of adaptation and of the choice of a checkpoint (`_choose_validation`)."""
    _choose_validation(args)
    args.uniform_classes = _train_ids("--sac_uniform_classes", args.sac_uniform_classes)
    if not args.adapt_dataset:
        return {"without --adapt_dataset": [name for name in vars(args) if name.startswith("sac_")]}
    _at_least(args, 1, "sac_views", "sac_images", "sac_teacher_every")
    _at_least(args, 0, "sac_weight", "sac_focal_power")
    _above_zero(args, "sac_beta")
    _check_ranges(args)
    if min(args.sac_crop) < 2 or any(side % 2 for side in args.sac_crop):
        raise UserError(f"--sac_crop takes an even height and width in px, not {args.sac_crop}")
    if args.domain_steps == "separate" and len(args.dataset) > 1:
        raise UserError(
            "--domain_steps separate is not possible with --adapt_dataset: one step has all losses"
        )
    if args.adapt_dataset in args.dataset:
        warnings.warn(f"--adapt_dataset {args.adapt_dataset} is a source domain too", stacklevel=3)
    idle: Idle = {} if args.sac_weights else {"without --sac_weights": ["sac_uniform", "sac_uniform_classes"]}
    if args.sac_phase == "abn":
        both = ("sac_phase", "sac_images", "sac_weights", "sac_uniform", "sac_uniform_classes")
        of_sac = [name for name in vars(args) if name.startswith("sac_") and name not in both]
        return idle | {"without --sac_phase sac": of_sac}
    if not args.snapshot:
        raise UserError("--sac_phase sac starts from trained weights; name their checkpoint with --snapshot")
    return idle


def _check_ranges(args: argparse.Namespace) -> None:
    """Check the flags of adaptation that have two values, or one from 0 to 1."""
    for name, least, most in (("scale", 1, math.inf), ("zoom", 0.01, 1), ("blur", 0.01, math.inf)):
        low, high = values = getattr(args, f"sac_{name}")
        if not least <= low <= high <= most or high == math.inf:
            raise UserError(
                f"--sac_{name} takes a least and a largest value from {least} to {most}, not {values}"
            )
    if min(args.sac_jitter) < 0 or args.sac_jitter[1] > 0.5:
        raise UserError(f"--sac_jitter takes a strength from 0 and a hue of 0 to 0.5, not {args.sac_jitter}")
    for name in ("gray", "conf_upper", "conf_lower", "prior_momentum", "teacher_momentum", "uniform"):
        if not 0 <= (value := getattr(args, f"sac_{name}")) <= 1:
            raise UserError(f"--sac_{name} must be from 0 to 1, not {value}")


def _choose_validation(args: argparse.Namespace) -> None:
    """Set `select_on` and `own_val`, the source domains that are validated besides --val_dataset.

    A run validates its sources' own val splits at the end, as the published code does. The labels of a source
    that is the only one choose best_.
    """
    validates = set(args.val_dataset) - {"null"}
    own = [name for name in args.dataset if name != "null"] if validates and not args.adapt_dataset else []
    if args.select_on is None:
        args.select_on = own if len(own) == 1 else []
    if unknown := set(args.select_on) - {*args.val_dataset, *own}:
        raise UserError(f"--select_on {', '.join(sorted(unknown))} is not in --val_dataset")
    args.own_val = [name for name in own if name not in validates]


def _main_loss(parser: Parser) -> None:
    add = parser.add_argument_group("main loss").add_argument
    add(
        "--loss_over",
        choices=("labelled", "all"),
        default="labelled",
        help="divide the sum of the cross entropy by the labelled pixels, or (DA-SAC) by all pixels",
    )
    add("--cls_wt_loss", action="store_true", help="fixed class weights")
    add("--img_wt_loss", action="store_true", help="class weights from each image")
    add("--batch_weighting", action="store_true", help="class weights from the batch instead")
    add("-wb", "--wt_bound", type=float, default=1.0, help="largest weight that is added for a rare class")
    add("--jointwtborder", action="store_true", help="boundary label relaxation, image-weighted")
    add("--strict_bdr_cls", type=str, default="", help="train ids that are not relaxed: 5,6,7")
    add(
        "--rlx_off_iter",
        type=int,
        default=-1,
        help="iteration after which relaxation ends (also where scl-poly switches); -1 for never",
    )


def _check_main_loss(args: argparse.Namespace) -> Idle:
    """Check the flags of the main loss and set `strict_classes`."""
    _at_least(args, 0, "wt_bound")
    args.strict_classes = _train_ids("--strict_bdr_cls", args.strict_bdr_cls)
    chosen = [name for name in ("cls_wt_loss", "img_wt_loss", "jointwtborder") if getattr(args, name)]
    if len(chosen) > 1:
        raise UserError(f"--{', --'.join(chosen)} are different main losses; choose one")
    idle: Idle = {}
    if args.img_wt_loss or args.jointwtborder:
        idle["with --img_wt_loss or --jointwtborder"] = ["loss_over"]
    else:
        idle["without --img_wt_loss or --jointwtborder"] = ["batch_weighting", "wt_bound"]
    if not args.jointwtborder:
        idle["without --jointwtborder"] = ["strict_bdr_cls"]
        if args.lr_schedule != "scl-poly":
            idle["without --jointwtborder or --lr_schedule scl-poly"] = ["rlx_off_iter"]
    return idle


def _optimization(parser: Parser) -> None:
    add = parser.add_argument_group("optimization").add_argument
    add("--lr", type=float, default=0.01, help="learning rate at the start")
    add("--momentum", type=float, default=0.9, help="momentum of SGD")
    add("--weight_decay", type=float, default=5e-4, help="L2 penalty of all weights")
    add("--weight_decay_bias", type=float, help="L2 penalty of biases; default: that of --weight_decay")
    add("--adam", action="store_true", help="Adam instead of SGD")
    add("--amsgrad", action="store_true", help="the AMSGrad variant of --adam")
    add("--lr_bias", type=float, default=1.0, help="factor of the learning rate of biases")
    add(
        "--lr_head",
        type=float,
        default=1.0,
        help="factor of the learning rate of all layers after the backbone, their biases included",
    )
    add(
        "--lr_schedule",
        type=str,
        choices=("poly", "scl-poly", "constant"),
        default="poly",
        help="how the learning rate falls",
    )
    add("--poly_exp", type=float, default=0.9, help="poly: exponent of 1 - iteration / max_iter")
    add("--rescale", type=float, default=1.0, help="scl-poly: factor after rlx_off_iter")
    add("--repoly", type=float, default=1.5, help="scl-poly: exponent after rlx_off_iter")
    add(
        "--max_epoch",
        type=int,
        default=180,
        help="training ends after this many epochs, but only if this flag is given",
    )
    add(
        "--max_iter",
        type=int,
        default=30000,
        help="training ends after this many iterations; the learning rate falls to 0 over them",
    )
    add(
        "--stop_after",
        type=int,
        help="save and stop after this iteration; continued, the run is the same as without the stop",
    )
    add("--bs_mult", type=int, default=2, help="training images per process and domain")
    add("--global_batch_size", type=int, help="training images per step over all processes; replaces bs_mult")
    add("--bs_mult_val", type=int, default=1, help="validation images per process")
    add("--fp16", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU")
    add("--seed", type=int, default=0, help="seed of all random numbers")
    add(
        "--deterministic",
        action="store_true",
        help="on GPUs, repeat and continue a run bit for bit (CPUs always do); slower, see utils/README.md",
    )


def _check_optimization(args: argparse.Namespace) -> Idle:
    _above_zero(args, "lr", "lr_bias", "lr_head", "rescale")
    _at_least(args, 0, "weight_decay", "weight_decay_bias", "poly_exp", "repoly", "seed")
    _at_least(args, 1, "max_epoch", "max_iter", "stop_after", "bs_mult", "bs_mult_val", "val_every")
    _at_least(args, 1, "keep_last")
    _at_least(args, 0, "save_every_iters")
    if "max_epoch" not in args.given:
        args.max_epoch = None
    if not 0 <= args.momentum < 1:
        raise UserError(f"--momentum must be from 0 to below 1, not {args.momentum}")
    if args.lr_schedule == "scl-poly" and not 0 <= args.rlx_off_iter < args.max_iter:
        raise UserError(
            f"--lr_schedule scl-poly switches at --rlx_off_iter, which must be in [0, {args.max_iter}), "
            f"not {args.rlx_off_iter}"
        )
    idle = {"with --adam": ["momentum"]} if args.adam else {"without --adam": ["amsgrad"]}
    if args.lr_schedule == "constant":
        idle["with --lr_schedule constant"] = ["poly_exp"]
    if args.lr_schedule != "scl-poly":
        idle["without --lr_schedule scl-poly"] = ["rescale", "repoly"]
    if args.global_batch_size is not None:
        idle["with --global_batch_size"] = ["bs_mult"]
    return idle


def _speed(parser: Parser) -> None:
    add = parser.add_argument_group("speed").add_argument
    add(
        "--fast",
        action="store_true",
        help="use all of the four flags below that are safe on this machine; the log says which",
    )
    add(
        "--amp",
        choices=("none", "bf16", "fp16"),
        default="none",
        help="mixed precision: the type in which convolutions compute",
    )
    add(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        help="keep the channels of a pixel together in memory; default: on a GPU, unless adapting",
    )
    add("--compile", action="store_true", help="compile network and losses with torch.compile")
    add("--cuda_graph", action="store_true", help="capture each training step in a CUDA graph")
    add(
        "--micro_batch",
        type=int,
        help="largest number of images per forward pass and process (gradients add up); default: all",
    )
    add(
        "--profile",
        action="store_true",
        help="record five steps: trace.json in the run's folder, and the top operators in the log",
    )


def _check_speed(args: argparse.Namespace) -> Idle:
    _at_least(args, 1, "micro_batch")
    if args.fp16 and "amp" in args.given and args.amp != "fp16":
        raise UserError(f"--fp16 is --amp fp16, which --amp {args.amp} contradicts; leave out one of them")
    return {}


def _train_records(parser: Parser) -> None:
    add = parser.add_argument_group("records").add_argument
    add("--date", type=str, default="default", help="first folder in ckpt and tb_path")
    add("--exp", type=str, default="default", help="second folder in ckpt and tb_path")
    add("--tb_tag", type=str, default="", help="suffix of the TensorBoard folder")
    add("--visualize_feature", action="store_true", help="log pictures of feature covariances")
    add("--ckpt", type=str, default="logs/ckpt", help="folder of checkpoints and logs")
    add("--tb_path", type=str, default="logs/tb", help="folder of TensorBoard events")
    add(
        "--save_every_iters",
        type=int,
        help="also save within epochs, so often (after half as many) that a killed run loses at most N "
        "iterations; default: about 10 minutes, as the first log line measures; 0 saves after epochs only",
    )
    add("--keep_last", type=int, default=1, help="how many of the newest last_... checkpoints stay")


def _train_no_effect(parser: Parser) -> None:
    add = parser.add_argument_group(NO_EFFECT).add_argument
    for flag in ("--sgd", "--syncbn"):
        add(flag, action="store_true", default=True, help="always so")
    add("--hardnm", type=int, default=0, help="unused")
    add("--trunk", type=str, default="resnet101", help="--arch chooses the trunk")
    add("--scf", action="store_true", help="unused")
    add("--start_epoch", type=int, default=0, help="the checkpoint holds its epoch")
    add("--dist_url", type=str, default="tcp://127.0.0.1:", help="the launcher's environment is used")
    add("--use_wtloss", action="store_true", help="--wt_layer says so")
    add("--use_isw", action="store_true", help="--wt_layer says so")


# Flags of eval.py


def _scored_data(parser: Parser) -> None:
    add = parser.add_argument_group("data").add_argument
    add(
        "--dataset",
        "--val_dataset",
        nargs="+",
        type=str,
        default="cityscapes",
        help="dataset to score, or several",
    )
    add("--dataset_dir", type=str, help="root folder of the only --dataset")
    add("--split", type=str, default="val", help="train, val or test")
    add("--cv_split", type=int, help="Cityscapes cross-validation split by cities, 0..2; default: 0")
    add(
        "--split_index",
        type=int,
        default=0,
        help="evaluate only slice number split_index of split_count, from 0",
    )
    add(
        "--split_count",
        type=int,
        default=1,
        help="into how many equal slices the split is divided, one for each job",
    )
    add("--num_workers", type=int, default=8, help="loader processes per evaluating process")


def _check_scored_data(args: argparse.Namespace) -> Idle:
    """Check the data flags and set `val_dataset`."""
    args.val_dataset = [args.dataset] if isinstance(args.dataset, str) else args.dataset
    if args.dataset_dir:
        if len(args.val_dataset) != 1:
            raise UserError(
                f"--dataset_dir is the root of one dataset, but {len(args.val_dataset)} are evaluated"
            )
        args.roots.folders[variants.parse(args.val_dataset[0]).dataset] = Path(args.dataset_dir)
    check_workers("--num_workers", args.num_workers)
    _at_least(args, 1, "split_count")
    if not 0 <= args.split_index < args.split_count:
        raise UserError(f"--split_index must be from 0 to {args.split_count - 1}, not {args.split_index}")
    if not 0 <= (args.cv_split or 0) <= 2:
        raise UserError(f"--cv_split must be 0, 1 or 2, not {args.cv_split}")
    idle: Idle = {}
    if "cityscapes" not in args.val_dataset:
        idle["without cityscapes"] = ["cv_split"]
    if "mapillary" not in args.val_dataset:
        idle["without mapillary"] = ["mapillary_protocol"]
    return idle


def _corruptions(parser: Parser) -> None:
    add = parser.add_argument_group("corruptions").add_argument
    add(
        "--corruption",
        nargs="+",
        type=str,
        default=[],
        help="also evaluate the datasets under these corruptions (fog, snow, ..); all means the usual 15",
    )
    add("--severity", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="severities of --corruption, 1 to 5")
    add(
        "--corruption_reference",
        type=str,
        help="results.json of another run under the same corruptions; degradations are relative to it",
    )


def _check_corruptions(args: argparse.Namespace) -> Idle:
    """Add the corrupted datasets to `val_dataset`."""
    args.val_dataset = variants.entries(args.val_dataset, args.corruption, args.severity)
    return {} if args.corruption else {"without --corruption": ["severity", "corruption_reference"]}


def _checkpoint(parser: Parser) -> None:
    add = parser.add_argument_group("network").add_argument
    add("--arch", type=str, default="", help="needed only if the checkpoint does not record it")
    add("--snapshot", type=str, default="", required=True, help="checkpoint to score, or a run's folder")


def _inference(parser: Parser) -> None:
    add = parser.add_argument_group("inference").add_argument
    add(
        "-im",
        "--inference_mode",
        type=str,
        choices=INFERENCE_MODES,
        default="sliding",
        help="windows, pooled scales of whole images, or one pass over each image",
    )
    add("--scales", type=str, default="0.5,1.0,2.0", help="size factors, separated by commas")
    add("--single_scale", action="store_true", help="only scale 1.0")
    add("--no_flip", action="store_true", help="without the mirrored image")
    add("--crop_size", type=int, default=1024, help="sliding window, px")
    add("--sliding_overlap", type=float, default=1 / 3, help="share of a window that the next one covers")
    add("--fixed_aspp_pool", action="store_true", help="ASPP pools 105x105 windows, not the whole map")
    add(
        "--precision",
        choices=("float32", "bf16"),
        default="float32",
        help="of the convolutions; float32 is TF32 where the GPU has it",
    )
    add(
        "--max_memory_gb",
        type=float,
        help="most GPU memory, on a CPU most memory of a process (GiB); default: all",
    )


def _scales(flag: str, text: str) -> list[float]:
    """Return numbers separated by commas; UserError for others than scales."""
    try:
        scales = [float(scale) for scale in text.split(",")]
    except ValueError:
        raise UserError(f"{flag} takes numbers separated by commas, not {text!r}") from None
    if impossible := [scale for scale in scales if not 0 < scale < math.inf]:
        raise UserError(f"{flag} takes finite numbers above 0, not {impossible[0]}")
    return scales


def _check_inference(args: argparse.Namespace) -> Idle:
    """Check the flags of inference and turn `scales` into numbers."""
    _check_layers(args)
    args.scales = [1.0] if args.single_scale else _scales("--scales", args.scales)
    if args.crop_size < 1 or not 0 <= args.sliding_overlap < 1:
        raise UserError(
            f"windows need a --crop_size of at least 1 px and 0 <= --sliding_overlap < 1, "
            f"not {args.crop_size} and {args.sliding_overlap}"
        )
    _above_zero(args, "max_memory_gb")
    sliding = ["crop_size", "sliding_overlap"]
    idle = {
        "sliding": {},
        "pooling": {"with --inference_mode pooling": sliding},
        "whole": {"with --inference_mode whole": [*sliding, "scales", "single_scale", "no_flip"]},
    }[args.inference_mode]
    if args.single_scale:
        idle["with --single_scale"] = ["scales"]
    return idle


def _measures(parser: Parser) -> None:
    add = parser.add_argument_group("what else is measured").add_argument
    add(
        "--calibration",
        nargs="?",
        type=int,
        const=15,
        default=0,
        metavar="BINS",
        help="expected calibration error and reliability diagram, with this number of bins, or 15",
    )
    add(
        "--boundary_iou",
        nargs="?",
        type=float,
        const=0.02,
        default=0.0,
        metavar="RATIO",
        help="IoU of bands along edges, this share of the image's diagonal wide, or 0.02",
    )
    add(
        "--scale_sweep",
        type=str,
        default="",
        help="also score every one of these scales on its own, separated by commas: 0.5,1.0,2.0",
    )


def _check_measures(args: argparse.Namespace) -> Idle:
    """Check what is measured, and add the datasets at each of the scales to `val_dataset`."""
    if "calibration" in args.given and not 1 <= args.calibration <= MOST_BINS:
        raise UserError(f"--calibration takes a number of bins from 1 to {MOST_BINS}, not {args.calibration}")
    if "boundary_iou" in args.given and not 0 < args.boundary_iou < 1:
        raise UserError(f"--boundary_iou takes a share of the diagonal in (0, 1), not {args.boundary_iou}")
    if args.scale_sweep:
        scales = sorted(set(_scales("--scale_sweep", args.scale_sweep)))
        if args.corruption:
            raise UserError("--scale_sweep and --corruption cannot be combined: evaluate once with each")
        args.val_dataset = variants.entries(args.val_dataset, [], [], scales)
    return {}


def _eval_records(parser: Parser) -> None:
    add = parser.add_argument_group("records").add_argument
    add("--ckpt_path", type=str, help="folder of the results; default: the checkpoint's folder")
    add("--exp_name", type=str, help="folder in ckpt_path; default: eval, or eval_DATASET for one dataset")
    add("--dump_images", action="store_true", help="write rgb, pred, diff and compose pictures")
    add("--date", type=str, default="default", help="for the published valid scripts; unused")
    add("--exp", type=str, help="the same as --exp_name, for the published valid scripts")
    add("--profile", action="store_true", help="print the time per image")
    add("--resume", action="store_true", help="continue an interrupted evaluation with the same settings")
    add("--overwrite", action="store_true", help="replace another evaluation in the same folder")


def _check_records(args: argparse.Namespace) -> Idle:
    """Set `ckpt_path` and `exp_name` to the folder of the results; see `place_results`."""
    if args.resume and args.overwrite:
        raise UserError("--resume keeps what is finished and --overwrite removes it; give only one of them")
    idle: Idle = {"with --exp_name": ["exp"]} if args.exp_name else {}
    args.exp_name = args.exp_name or args.exp
    vars(args).update(vars(place_results(args, Path(args.snapshot))))
    return idle


def place_results(args: argparse.Namespace, snapshot: Path) -> argparse.Namespace:
    """Return `args` with the checkpoint that is scored and the folder of its results.

    Without a flag for it, the folder of the results lies in the checkpoint's folder.
    """
    args = argparse.Namespace(**vars(args))
    args.snapshot = str(snapshot)
    if "ckpt_path" not in args.given or not args.ckpt_path:
        args.ckpt_path = str(snapshot.parent)
    if not {"exp_name", "exp"} & args.given or not args.exp_name:
        names = {variants.parse(name).dataset for name in args.val_dataset}
        one_name = f"eval_{min(names)}" if len(names) == 1 else "eval"
        one_name += "" if args.split == "val" else f"_{args.split}"
        one_name += "_corrupted" if args.corruption else "_scales" if args.scale_sweep else ""
        kind = re.match(r"(?:best|ema)_.+?(?=_epoch_)", snapshot.name)  # last_... has the plain name
        args.exp_name = f"{one_name}_{kind[0]}" if kind else one_name
    return args


def _eval_no_effect(parser: Parser) -> None:
    add = parser.add_argument_group(NO_EFFECT).add_argument
    add("--dataset_cls", type=str, default="cityscapes", help="unused")
    add("--trunk", type=str, default="resnet101", help="--arch chooses the trunk")
    add("--dist_bn", action="store_true", help="unused")
    add("--syncbn", action="store_true", help="unused")
    add("--dist_url", type=str, default="tcp://127.0.0.1:", help="the launcher's environment is used")
    add("--visualize_feature", action="store_true", help="train.py logs covariances")
    add("--mode", type=str, default="fine", help="unused")
    add("--relax_denom", type=float, default=0.0, help="only for training")
    add("--clusters", type=int, default=0.0, help="only for training")
    add("--trials", type=int, default=0.0, help="only for training")
