"""The command line: every flag of train.py and eval.py in titled groups, and where the datasets live.

Names, types and defaults are those of the published code wherever it had the flag; see README, "Differences".
"""

import argparse
import math
import os
import re
import warnings
from pathlib import Path

# Dataset roots. An environment variable of the same name overrides each, --data_root DIR all (DIR/NAME).
CITYSCAPES_DIR = "data/cityscapes"
GTAV_DIR = "data/gtav"
BDD_DIR = "data/bdd100k"
SYNTHIA_DIR = "data/synthia"
MAPILLARY_DIR = "data/mapillary"
CAMVID_DIR = "data/camvid"
KITTI_DIR = "data/kitti"
FOLDER_DIR = "data/folder"
ROOTS = {
    "cityscapes": "CITYSCAPES_DIR",
    "gtav": "GTAV_DIR",
    "bdd100k": "BDD_DIR",
    "synthia": "SYNTHIA_DIR",
    "mapillary": "MAPILLARY_DIR",
    "camvid": "CAMVID_DIR",
    "kitti": "KITTI_DIR",
    "folder": "FOLDER_DIR",
}

NUM_CLASSES = 19
INFERENCE_MODES = ("sliding", "pooling", "whole")
IW, ISW = 1, 2  # codes of wt_layer
NO_EFFECT = "accepted, no effect"


def parse_train_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the flags of train.py and add `roots`, the lists of classes and the batch size per process.

    Raises ValueError for a value that cannot work.
    """
    args = _parse("train", argv)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if args.global_batch_size is not None:
        domains = 1 if args.image_uniform_sampling else max(1, len(args.dataset))
        shares = world_size * domains
        if args.global_batch_size < 1 or args.global_batch_size % shares:
            raise ValueError(
                f"--global_batch_size {args.global_batch_size} cannot be divided among {world_size} "
                f"processes with {domains} domains each; take a multiple of {shares}"
            )
        args.bs_mult = args.global_batch_size // shares
    _check_numbers(args)
    _check_adaptation(args, world_size)
    _warn_of_idle(args)
    args.strict_classes = _train_ids("--strict_bdr_cls", args.strict_bdr_cls)
    args.boost_classes = _train_ids("--coarse_boost_classes", args.coarse_boost_classes or "")
    if args.boost_classes and (args.class_uniform_pct <= 0 or "cityscapes" not in args.dataset):
        raise ValueError(
            "--coarse_boost_classes adds to the class-uniform sampling of cityscapes: it needs "
            "--class_uniform_pct above 0 and cityscapes in --dataset"
        )
    if args.maxSkip and "cityscapes" not in args.dataset:
        raise ValueError("--maxSkip adds video frames of cityscapes: it needs cityscapes in --dataset")
    if args.snapshot:
        args.pretrained = "none"
    elif args.restore_optimizer:
        raise ValueError("--restore_optimizer continues a run: name its checkpoint with --snapshot")
    if args.test_mode:
        args.max_epoch, args.cov_stat_epoch, args.trials = 2, 0, min(args.trials, 2)
    return args


def _check_numbers(args: argparse.Namespace) -> None:
    for name in (
        "bs_mult",
        "bs_mult_val",
        "crop_size",
        "pre_size",
        "max_epoch",
        "max_iter",
        "class_uniform_tile",
    ):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if not 0 <= args.rrotate <= 180:
        raise ValueError(f"--rrotate {args.rrotate} is no angle in degrees from 0 to 180")
    if not 0 < args.scale_min <= args.scale_max:
        raise ValueError(
            "scales are drawn from [--scale_min, --scale_max]: "
            f"0 < {args.scale_min} <= {args.scale_max} fails"
        )
    if ISW in args.wt_layer and min(args.trials, args.clusters - 1) < 1:
        raise ValueError(
            "--wt_layer asks for ISW, which needs --trials of at least 1 and --clusters of at least 2, "
            f"not {args.trials} and {args.clusters}"
        )


def _check_adaptation(args: argparse.Namespace, world_size: int) -> None:
    """Check the flags of adaptation and set `select_on` to the datasets whose best checkpoint is kept."""
    if args.select_on is None:
        args.select_on = [] if args.adapt_dataset else args.val_dataset
    if unknown := set(args.select_on) - set(args.val_dataset):
        raise ValueError(f"--select_on {', '.join(sorted(unknown))} is not in --val_dataset")
    if not args.adapt_dataset:
        return
    views, images = args.sac_views, args.sac_images
    share, rest = divmod(views * images, world_size)
    for name, least in (("sac_views", 1), ("sac_images", 1), ("sac_teacher_every", 1), ("sac_weight", 0)):
        if not getattr(args, name) >= least:
            raise ValueError(f"--{name} must be at least {least}, not {getattr(args, name)}")
    if rest or (share % views and views % share):
        raise ValueError(
            f"--sac_images {images} of --sac_views {views} cannot be divided among {world_size} processes: "
            "each takes whole images, or an equal part of the views of one"
        )
    if min(args.sac_crop) < 2 or any(side % 2 for side in args.sac_crop):
        raise ValueError(f"--sac_crop takes an even height and width in px, not {args.sac_crop}")
    if args.domain_steps == "separate" and len(args.dataset) > 1:
        raise ValueError("--domain_steps separate does not go with --adapt_dataset: one step has all losses")
    if args.adapt_dataset in args.dataset:
        warnings.warn(f"--adapt_dataset {args.adapt_dataset} is a source domain too", stacklevel=3)
    if args.sac_phase == "sac" and not args.snapshot:
        raise ValueError("--sac_phase sac starts from trained weights: name their checkpoint with --snapshot")


def _warn_of_idle(args: argparse.Namespace) -> None:
    """Warn of flags that others leave without effect."""
    weighted = args.img_wt_loss or args.jointwtborder
    whitened = {IW, ISW} & set(args.wt_layer)
    idle = {
        "amsgrad": (args.amsgrad and not args.adam, "--adam"),
        "batch_weighting": (args.batch_weighting and not weighted, "--img_wt_loss or --jointwtborder"),
        "wt_bound": (args.wt_bound != 1 and not weighted, "--img_wt_loss or --jointwtborder"),
        "strict_bdr_cls": (args.strict_bdr_cls and not args.jointwtborder, "--jointwtborder"),
        "dynamic": (args.dynamic and ISW not in args.wt_layer, "code 2 in --wt_layer"),
        "sac_published_loss": (args.sac_published_loss and args.sac_phase != "sac", "--sac_phase sac"),
        "wt_reg_weight": (args.wt_reg_weight and not whitened, "code 1 or 2 in --wt_layer"),
    }
    if not args.adapt_dataset:
        defaults = get_parser("train")
        for name in (name for name in vars(args) if name.startswith("sac_")):
            idle[name] = getattr(args, name) != defaults.get_default(name), "--adapt_dataset"
    for name, (is_idle, needed) in idle.items():
        if is_idle:
            warnings.warn(f"--{name} has no effect without {needed}", stacklevel=3)
    if ISW in args.wt_layer and (unseen := set(args.covstat_val_dataset) - set(args.dataset)):
        warnings.warn(
            f"whitening statistics come from domains not trained on: {', '.join(sorted(unseen))}; "
            "see --covstat_val_dataset",
            stacklevel=3,
        )


def _train_ids(flag: str, text: str) -> tuple[int, ...]:
    ids = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not all(entry.isdecimal() and int(entry) < NUM_CLASSES for entry in ids):
        raise ValueError(f"{flag} takes train ids 0..{NUM_CLASSES - 1} separated by commas, not {text!r}")
    return tuple(map(int, ids))


def parse_eval_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the flags of eval.py; `val_dataset` is the list of datasets and `scales` a list of numbers.

    Raises ValueError for a value that cannot work.
    """
    args = _parse("eval", argv)
    args.val_dataset = [args.dataset] if isinstance(args.dataset, str) else args.dataset
    if args.dataset_dir:
        if len(args.val_dataset) != 1:
            raise ValueError(
                f"--dataset_dir is the root of one dataset, but {len(args.val_dataset)} are evaluated"
            )
        args.roots[args.val_dataset[0]] = Path(args.dataset_dir)
    _warn_of_idle_inference(args)
    try:
        args.scales = [1.0] if args.single_scale else [float(scale) for scale in args.scales.split(",")]
    except ValueError:
        raise ValueError(f"--scales takes numbers separated by commas, not {args.scales!r}") from None
    _check_inference(args)
    args.ckpt_path = args.ckpt_path or str(Path(args.snapshot).parent)
    one_name = f"eval_{args.val_dataset[0]}" if len(args.val_dataset) == 1 else "eval"
    kind = re.match(r"(?:best|ema)_.+?(?=_epoch_)", Path(args.snapshot).name)  # last_... has the plain name
    args.exp_name = args.exp_name or args.exp or (f"{one_name}_{kind[0]}" if kind else one_name)
    args.pretrained = "none"
    return args


def _check_inference(args: argparse.Namespace) -> None:
    if args.inference_mode not in INFERENCE_MODES:
        modes = ", ".join(INFERENCE_MODES)
        raise ValueError(f"--inference_mode {args.inference_mode!r} is unknown; choose one of {modes}")
    if impossible := [scale for scale in args.scales if not 0 < scale < math.inf]:
        raise ValueError(f"scale {impossible[0]} in --scales is no size factor; expected a number above 0")
    if args.crop_size < 1 or not 0 <= args.sliding_overlap < 1:
        raise ValueError(
            f"windows of crop {args.crop_size}, overlap {args.sliding_overlap}: expected --crop_size of at "
            "least 1 px and 0 <= --sliding_overlap < 1"
        )
    if args.max_memory_gb is not None and not args.max_memory_gb > 0:
        raise ValueError(f"--max_memory_gb {args.max_memory_gb} leaves no memory; expected GiB above 0")
    if args.split_count < 1:
        raise ValueError(f"--split_count must be at least 1, not {args.split_count}")
    if not 0 <= args.split_index < args.split_count:
        raise ValueError(f"--split_index {args.split_index} is not one of 0..{args.split_count - 1}")


def _warn_of_idle_inference(args: argparse.Namespace) -> None:
    """Warn of flags that the mode of inference, or --single_scale, leaves without effect."""
    sliding, mode = ["crop_size", "sliding_overlap"], args.inference_mode
    idle = {
        "--inference_mode pooling": sliding if mode == "pooling" else [],
        "--inference_mode whole": [*sliding, "scales", "no_flip"] if mode == "whole" else [],
        "--single_scale": ["scales"] if args.single_scale else [],
    }
    defaults = get_parser("eval")
    for cause, names in idle.items():
        for name in names:
            if getattr(args, name) != defaults.get_default(name):
                warnings.warn(f"--{name} has no effect with {cause}", stacklevel=3)


def dataset_roots(data_root: str | None) -> dict[str, Path]:
    """Return every dataset's folder: DATA_ROOT/NAME, else its environment variable, else the constant."""
    if data_root:
        return {name: Path(data_root, name) for name in ROOTS}
    return {name: Path(os.environ.get(constant) or globals()[constant]) for name, constant in ROOTS.items()}


def _parse(program: str, argv: list[str] | None) -> argparse.Namespace:
    parser = get_parser(program)
    args = parser.parse_args(argv)
    for group in parser._action_groups:
        set_flags = [
            a.option_strings[0] for a in group._group_actions if getattr(args, a.dest, a.default) != a.default
        ]
        if set_flags and group.title == NO_EFFECT:
            warnings.warn(f"no effect: {', '.join(set_flags)}", stacklevel=3)
    args.roots = dataset_roots(args.data_root)
    bare = get_parser(program)  # without defaults, it sets only the flags that are given
    for action in bare._actions:
        action.default = argparse.SUPPRESS
    args.given = set(vars(bare.parse_args(argv)))
    return args


def get_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of `program`, "train" or "eval"."""
    parser = argparse.ArgumentParser(
        description=f"{program}.py: domain generalization in urban-scene segmentation",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    {"train": _train_flags, "eval": _eval_flags}[program](parser)
    return parser


def _shared_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("where the data is")
    data.add_argument("--data_root", help="folder that holds cityscapes, gtav, ...: the datasets by name")
    data.add_argument(
        "--strict_data", action="store_true", help="an unusable image is an error, never skipped"
    )
    data.add_argument(
        "--mapillary_protocol",
        choices=("legacy", "full", "half"),
        default="full",
        help="Mapillary validation: whole images, at half size, or (legacy) the middle square at height 1536",
    )
    data.add_argument(
        "--cache_dir", help="folder of derived files (class centroids); default: beside the data"
    )
    data.add_argument(
        "--image_in",
        action="store_true",
        help="normalize each image by its own channel mean and std instead of ImageNet's",
    )

    net = parser.add_argument_group("network")
    net.add_argument(
        "--wt_layer",
        nargs="*",
        type=int,
        default=[0] * 7,
        help="seven codes: stem 0..2, layer1..layer4; 0 none, 1 IW/IRW, 2 ISW, 3 IN, 4 IBN, 5 SW, 6 IterNorm",
    )

    launch = parser.add_argument_group("launch")
    launch.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by torch.distributed.launch"
    )
    launch.add_argument(
        "--test_mode",
        action="store_true",
        help="a short run: 2 epochs of 7 training iterations, 12 validation images",
    )


def _train_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", nargs="*", type=str, default=["cityscapes"], help="source domains")
    data.add_argument(
        "--image_uniform_sampling",
        action="store_true",
        help="concatenate the source domains instead of drawing one image of each",
    )
    data.add_argument(
        "--domain_steps",
        choices=("joint", "separate"),
        default="joint",
        help="one optimizer step for a batch of all domains, or one for each domain (published)",
    )
    data.add_argument(
        "--val_dataset",
        nargs="*",
        type=str,
        default=["bdd100k"],
        help="validated after every epoch; may be empty or null",
    )
    data.add_argument(
        "--covstat_val_dataset",
        nargs="*",
        type=str,
        default=["cityscapes"],
        help="domains whose training images the whitening statistics come from",
    )
    data.add_argument(
        "--city_mode", type=str, default="train", help="Cityscapes training split: train or trainval"
    )
    data.add_argument("--cv", type=int, default=0, help="Cityscapes cross-validation split by cities, 0..2")
    data.add_argument(
        "--class_uniform_pct", type=float, default=0, help="share of an epoch drawn evenly over classes"
    )
    data.add_argument(
        "--class_uniform_tile", type=int, default=1024, help="tile of the class centroids in px"
    )
    data.add_argument(
        "--coarse_boost_classes",
        type=str,
        help="Cityscapes: train ids (3,4) whose centroids also come from the coarse set",
    )
    data.add_argument(
        "--maxSkip",
        type=int,
        default=0,
        help="Cityscapes: add to each training image the video frames this many ids before and after",
    )
    data.add_argument(
        "--max_cu_epoch", type=int, default=100000, help="no class-uniform sampling from this epoch on"
    )
    data.add_argument("--cache_images", help="folder in which training images are kept decoded (8 MB each)")
    data.add_argument("--num_workers", type=int, default=4, help="loader processes per training process")

    augmentation = parser.add_argument_group("augmentation")
    augmentation.add_argument("--crop_size", type=int, default=720, help="training crop, px")
    augmentation.add_argument(
        "--crop_nopad",
        action="store_true",
        help="shrink the crop to a small image and resize, instead of padding",
    )
    augmentation.add_argument("--pre_size", type=int, help="first scale the shorter edge to this, px")
    augmentation.add_argument("--scale_min", type=float, default=0.5)
    augmentation.add_argument("--scale_max", type=float, default=2.0)
    augmentation.add_argument(
        "--rrotate", type=int, default=0, help="rotate uniformly in +- this many degrees"
    )
    augmentation.add_argument(
        "--color_aug", type=float, default=0.0, help="> 0 switches colour jitter on (no strength)"
    )
    augmentation.add_argument("--gblur", action="store_true", help="Gaussian blur")
    augmentation.add_argument("--bblur", action="store_true", help="bilateral blur instead of Gaussian")
    augmentation.add_argument(
        "--aug_device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="where jitter, blur and normalization run: in the loaders (cpu) or on the training device",
    )
    augmentation.add_argument(
        "--dump_augmentation_images",
        action="store_true",
        help="write the first augmented batch of every epoch beside the checkpoints",
    )

    net = parser.add_argument_group("network and start")
    net.add_argument("--arch", type=str, default="DeepR50V3PlusD", help="also as network.deepv3.NAME")
    net.add_argument("--pretrained", default="imagenet", help="imagenet, none, or a file of backbone weights")
    net.add_argument("--snapshot", type=str, help="start from this checkpoint's weights")
    net.add_argument(
        "--restore_optimizer",
        action="store_true",
        help="continue the --snapshot run: optimizer, schedule, epoch, whitening masks",
    )
    net.add_argument("--freeze_trunk", action="store_true", help="train the head only (works here)")

    white = parser.add_argument_group("whitening")
    white.add_argument("--wt_reg_weight", type=float, default=0.0, help="weight of the whitening loss")
    white.add_argument(
        "--relax_denom", type=float, default=2.0, help="IRW margin = pairs // this; 0 for none"
    )
    white.add_argument("--clusters", type=int, default=50, help="ISW: clusters of the covariance variances")
    white.add_argument(
        "--trials", type=int, default=10, help="ISW: statistics passes whose masks are intersected"
    )
    white.add_argument(
        "--cov_stat_epoch", type=int, default=5, help="ISW: epoch after which statistics are taken"
    )
    white.add_argument(
        "--dynamic", action="store_true", help="ISW: repeat them every cov_stat_epoch + 1 epochs"
    )

    sac = parser.add_argument_group("adaptation to an unlabelled target domain (DA-SAC)")
    sac.add_argument("--adapt_dataset", help="target domain, whose training images are used without labels")
    sac.add_argument(
        "--sac_phase",
        choices=("abn", "sac"),
        default="sac",
        help="abn: batch norm adapts to target images; sac: self-training from the weights of --snapshot",
    )
    sac.add_argument("--sac_views", type=int, default=4, help="views of one target image")
    sac.add_argument("--sac_images", type=int, default=2, help="target images per step, over all processes")
    sac.add_argument(
        "--sac_crop", nargs=2, type=int, default=[512, 1024], metavar=("H", "W"), help="size of a view, px"
    )
    sac.add_argument("--sac_weight", type=float, default=5.0, help="weight of the target domain's loss")
    sac.add_argument(
        "--sac_teacher_every", type=int, default=100, help="iterations between updates of the teacher"
    )
    sac.add_argument(
        "--sac_published_loss", action="store_true", help="each view's loss times every view's confidence"
    )
    sac.add_argument("--sac_weights", help="file of scripts.class_weights: draws rare classes more often")
    sac.add_argument(
        "--select_on",
        nargs="*",
        help="validation datasets whose best checkpoint is kept; default: all, or none while adapting",
    )

    losses = parser.add_argument_group("main loss")
    losses.add_argument("--cls_wt_loss", action="store_true", help="fixed class weights")
    losses.add_argument("--img_wt_loss", action="store_true", help="class weights from each image")
    losses.add_argument("--batch_weighting", action="store_true", help="class weights from the batch instead")
    losses.add_argument(
        "-wb", "--wt_bound", type=float, default=1.0, help="most weight added to a rare class"
    )
    losses.add_argument(
        "--jointwtborder", action="store_true", help="boundary label relaxation, image-weighted"
    )
    losses.add_argument(
        "--strict_bdr_cls", type=str, default="", help="train ids that are not relaxed: 5,6,7"
    )
    losses.add_argument("--rlx_off_iter", type=int, default=-1, help="iteration after which relaxation ends")

    optim = parser.add_argument_group("optimization")
    optim.add_argument("--lr", type=float, default=0.01)
    optim.add_argument("--momentum", type=float, default=0.9)
    optim.add_argument("--weight_decay", type=float, default=5e-4, help="works here")
    optim.add_argument("--adam", action="store_true", help="Adam instead of SGD (works here)")
    optim.add_argument("--amsgrad", action="store_true", help="with --adam (works here)")
    optim.add_argument("--lr_bias", type=float, default=1.0, help="learning rate of biases, times --lr")
    optim.add_argument("--lr_schedule", type=str, default="poly", help="poly, scl-poly or constant")
    optim.add_argument("--poly_exp", type=float, default=0.9)
    optim.add_argument("--rescale", type=float, default=1.0, help="scl-poly: factor after rlx_off_iter")
    optim.add_argument("--repoly", type=float, default=1.5, help="scl-poly: exponent after rlx_off_iter")
    optim.add_argument("--max_epoch", type=int, default=180)
    optim.add_argument("--max_iter", type=int, default=30000)
    optim.add_argument("--bs_mult", type=int, default=2, help="training images per process and domain")
    optim.add_argument(
        "--global_batch_size", type=int, help="training images per step over all processes; replaces bs_mult"
    )
    optim.add_argument("--bs_mult_val", type=int, default=1, help="validation images per process")
    optim.add_argument("--fp16", action="store_true", help="mixed precision (works here; bfloat16 on a CPU)")
    optim.add_argument("--seed", type=int, default=0, help="of everything random")

    logs = parser.add_argument_group("records")
    logs.add_argument("--date", type=str, default="default", help="first folder under ckpt and tb_path")
    logs.add_argument("--exp", type=str, default="default", help="second folder")
    logs.add_argument("--tb_tag", type=str, default="", help="suffix of the TensorBoard folder (works here)")
    logs.add_argument("--visualize_feature", action="store_true", help="log pictures of feature covariances")
    logs.add_argument("--ckpt", type=str, default="logs/ckpt")
    logs.add_argument("--tb_path", type=str, default="logs/tb")
    _shared_flags(parser)

    unused = parser.add_argument_group(NO_EFFECT)
    for flag in ("--sgd", "--syncbn"):
        unused.add_argument(flag, action="store_true", default=True, help="always so")
    unused.add_argument("--hardnm", type=int, default=0)
    unused.add_argument("--trunk", type=str, default="resnet101", help="--arch chooses the trunk")
    unused.add_argument("--scf", action="store_true")
    unused.add_argument("--start_epoch", type=int, default=0, help="the checkpoint knows its epoch")
    unused.add_argument(
        "--dist_url", type=str, default="tcp://127.0.0.1:", help="the launcher's environment is used"
    )
    unused.add_argument("--use_wtloss", action="store_true", help="--wt_layer says so")
    unused.add_argument("--use_isw", action="store_true", help="--wt_layer says so")


def _eval_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset", "--val_dataset", nargs="+", type=str, default="cityscapes", help="one or several"
    )
    data.add_argument("--dataset_dir", type=str, help="root of the one --dataset (works here)")
    data.add_argument("--split", type=str, default="val")
    data.add_argument("--cv_split", type=int, help="Cityscapes cross-validation split by cities, 0..2")
    data.add_argument("--split_index", type=int, default=0, help="evaluate this slice of ..")
    data.add_argument("--split_count", type=int, default=1, help=".. this many equal ones")
    data.add_argument("--num_workers", type=int, default=8, help="loader processes per evaluating process")

    net = parser.add_argument_group("network")
    net.add_argument(
        "--arch", type=str, default="", help="needed only where the checkpoint does not record it"
    )
    net.add_argument("--snapshot", type=str, default="", required=True, help="checkpoint to score")

    how = parser.add_argument_group("inference")
    how.add_argument("-im", "--inference_mode", type=str, default="sliding", help="sliding, pooling or whole")
    how.add_argument("--scales", type=str, default="0.5,1.0,2.0")
    how.add_argument("--single_scale", action="store_true", help="scale 1.0 only")
    how.add_argument("--no_flip", action="store_true", help="without the mirrored image")
    how.add_argument("--crop_size", type=int, default=1024, help="sliding window, px")
    how.add_argument("--sliding_overlap", type=float, default=1 / 3)
    how.add_argument(
        "--fixed_aspp_pool", action="store_true", help="ASPP pools 105x105 windows, not the whole map"
    )

    how.add_argument(
        "--precision",
        choices=("float32", "bf16"),
        default="float32",
        help="of the convolutions; float32 is TF32 where the GPU has it",
    )
    how.add_argument(
        "--max_memory_gb", type=float, help="most GPU memory (GiB) to take; default: what is free"
    )

    records = parser.add_argument_group("records")
    records.add_argument("--ckpt_path", type=str, help="where results go; default: the checkpoint's folder")
    records.add_argument(
        "--exp_name", type=str, help="folder in ckpt_path; default: eval, or eval_DATASET of one"
    )
    records.add_argument(
        "--dump_images", action="store_true", help="write rgb, pred, diff and compose pictures"
    )
    records.add_argument(
        "--date", type=str, default="default", help="as the published valid scripts pass it; unused"
    )
    records.add_argument("--exp", type=str, help="the same as --exp_name, for the published valid scripts")
    records.add_argument("--profile", action="store_true", help="print the time per image")
    records.add_argument(
        "--resume", action="store_true", help="go on with an interrupted evaluation of the same settings"
    )
    _shared_flags(parser)

    unused = parser.add_argument_group(NO_EFFECT)
    unused.add_argument("--dataset_cls", type=str, default="cityscapes")
    unused.add_argument("--trunk", type=str, default="resnet101")
    unused.add_argument("--dist_bn", action="store_true")
    unused.add_argument("--syncbn", action="store_true")
    unused.add_argument("--dist_url", type=str, default="tcp://127.0.0.1:")
    unused.add_argument("--visualize_feature", action="store_true", help="train.py logs covariances")
    unused.add_argument("--mode", type=str, default="fine")
    unused.add_argument("--relax_denom", type=float, default=0.0)
    unused.add_argument("--clusters", type=int, default=0.0)
    unused.add_argument("--trials", type=int, default=0.0)
