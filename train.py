"""Train a segmentation network on source domains and validate it on domains it never sees.

    torchrun --nproc_per_node=N train.py --dataset gtav --val_dataset cityscapes bdd100k ...

Also `python -m torch.distributed.launch --nproc_per_node=N train.py ...` and plain `python train.py ...`.
One training step is `Trainer.step` in utils/training.py.
"""

import argparse
import math
from collections.abc import Callable
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

import config
from datasets.loaders import Loaders, endless, setup_classes, setup_loaders
from loss import HeadLosses, MainLoss, cross_entropy
from network import get_adaptation, get_net
from network.archs import check_version
from network.instance_whitening import Whitening, covariance
from network.normalization import synchronize_batch_norm
from network.weights import load_weights
from optimizer import get_optimizer
from utils import checkpoint, distributed, settings, tensorboard, visualize
from utils.classes import ClassTable
from utils.errors import UserError
from utils.evaluation.validation import validate
from utils.exit import exit_cleanly
from utils.logging import Run, logger, setup
from utils.norms import Norm
from utils.saving import Keeper
from utils.statistics import estimate_masks
from utils.training import Scores, Trainer

LOG_EVERY = 50  # iterations
TEST_MODE_ITERATIONS = 7


def main(args: argparse.Namespace) -> None:
    device = distributed.init(args.local_rank, args.num_workers)
    setup()
    torch.manual_seed(args.seed)
    classes = setup_classes(args)
    args = config.complete(args, distributed.world_size(), len(classes))
    if args.snapshot:  # a wrong path is found at once
        args.snapshot = str(distributed.from_first_rank(lambda: checkpoint.find(args.snapshot)))
    state = checkpoint.load(args.snapshot) if args.snapshot else None
    trainer, loaders = build(args, classes, device)
    if state:
        start_from(args, trainer, state)
    del state
    if distributed.world_size() > 1:
        synchronize_batch_norm(trainer.net)
        trainer.model = DistributedDataParallel(trainer.net, [device] if device.type == "cuda" else None)
    run = Run(args.ckpt, args.tb_path, args.date, args.exp, args.tb_tag)
    announce(args, trainer)
    first = next(iter(loaders.val), "unscored")
    with run, Keeper(trainer, run.checkpoints, first, args.select_on, args.keep_last) as keeper:
        train(args, trainer, loaders, run, keeper, classes)
    logger.info("checkpoints and log in %s, TensorBoard in %s", run.checkpoints, run.tensorboard)


def train(
    args: argparse.Namespace,
    trainer: Trainer,
    loaders: Loaders,
    run: Run,
    keeper: Keeper,
    classes: ClassTable,
) -> None:
    """Train epoch after epoch; after each, save, take the statistics that are due, validate and save."""
    last_iteration = min(args.max_iter, args.stop_after or args.max_iter)
    while trainer.pending or not finished(args, trainer):
        complete = train_epoch(args, trainer, loaders, run, classes, last_iteration)
        keeper.save()  # before what can fail
        if trainer.iteration == args.stop_after:
            return
        statistics = complete and trainer.whitening.selective and statistics_due(args, trainer.epoch)
        if statistics:
            estimate_masks(trainer, loaders.statistics, args.trials, run.writer)
        scores = validate_all(trainer, validation_due(args, trainer, loaders), run, args, classes)
        if statistics or scores:
            keeper.save(scores)
        trainer.epoch, trainer.pending = trainer.epoch + 1, False
    logger.info("report last_...; %s", selected(args))


def build(args: argparse.Namespace, classes: ClassTable, device: torch.device) -> tuple[Trainer, Loaders]:
    """Build what is trained and what it is trained on.

    The network comes first, because a wrong --arch, --wt_layer or --clusters is found in seconds, while
    listing and reading datasets can take long. It is moved to the device after that.
    """
    net = get_net(args, len(classes))
    whitening = Whitening.for_network(net, clusters=args.clusters, relax_denom=args.relax_denom)
    loaders = setup_loaders(args)
    net.to(device)
    adaptation = get_adaptation(args, net, len(classes))
    optimizer, schedule = get_optimizer(args, net)
    record = settings.record(
        vars(args),
        classes=classes.to_dict(),
        optimizer=type(optimizer).__name__,
        adaptation=args.sac_phase if adaptation else "none",
        processes=distributed.world_size(),
        images_per_step=config.images_per_step(args, distributed.world_size()),
    )
    trainer = Trainer(
        net,
        head_losses(args, classes),
        whitening.to(device),
        optimizer,
        schedule,
        loaders,
        record,
        adaptation.to(device) if adaptation else None,
    )
    return trainer, loaders


def announce(args: argparse.Namespace, trainer: Trainer) -> None:
    """Log what is trained and what is known at the start to go another way than expected."""
    logger.info("%s on %d x %s", args.arch, distributed.world_size(), trainer.device.type)
    if target := trainer.loaders.target:
        text = "adapting to %d images of %s, phase %s"
        logger.info(text, len(target.dataset), args.adapt_dataset, args.sac_phase)
    steps = len(trainer.loaders.train)
    last = min(args.max_iter, (args.max_epoch or math.inf) * steps)
    if last < args.max_iter:
        text = "training ends after --max_epoch %d, at iteration %d of --max_iter %d"
        logger.warning(text, args.max_epoch, last, args.max_iter)
    whitened = {Norm.IW, Norm.ISW} & set(args.wt_layer)
    if whitened and not args.wt_reg_weight:
        logger.warning("the whitening loss is off, because --wt_reg_weight is 0")
    elif trainer.whitening.selective and last <= (args.cov_stat_epoch + 1) * steps:
        text = (
            "the ISW loss is never on: its statistics follow epoch %d (--cov_stat_epoch), iteration %d of %d"
        )
        logger.warning(text, args.cov_stat_epoch, (args.cov_stat_epoch + 1) * steps, last)


def finished(args: argparse.Namespace, trainer: Trainer) -> bool:
    """Whether training has reached --max_iter, --max_epoch, or the one epoch of a run without images."""
    epochs = args.max_epoch or (math.inf if len(trainer.loaders.train) else 1)
    return trainer.iteration >= args.max_iter or trainer.epoch >= epochs


def selected(args: argparse.Namespace) -> str:
    """Say which labels chose a checkpoint."""
    if not args.select_on:
        return "no labels chose a checkpoint"
    return f"best_... was chosen by labels of {', '.join(args.select_on)}"


def head_losses(args: argparse.Namespace, classes: ClassTable) -> HeadLosses:
    """Return the losses of the main and the auxiliary head that the flags choose."""
    if args.cls_wt_loss and not classes.weights:
        raise UserError("--cls_wt_loss: these datasets have no fixed class weights; use --img_wt_loss")
    main_loss = MainLoss(
        class_weights=classes.weights if args.cls_wt_loss else None,
        image_weighted=args.img_wt_loss,
        relax_boundary=args.jointwtborder,
        upper_bound=args.wt_bound,
        batch_weighting=args.batch_weighting,
        strict_classes=args.strict_classes,
        relax_off_iter=args.rlx_off_iter,
    )
    return HeadLosses(main_loss)


def start_from(args: argparse.Namespace, trainer: Trainer, state: dict[str, Any]) -> None:
    """Continue the run of --snapshot, read into `state` (--restore_optimizer), or start from its weights."""
    check_version(args.arch, state, args.snapshot)
    if args.restore_optimizer:
        trainer.load_state_dict(state)
        return
    recorded = settings.recorded(state)
    checkpoint.check_settings({"settings": recorded}, {"arch": trainer.settings["arch"]})
    if recorded.get("image_in", args.image_in) != args.image_in:
        logger.warning("%s was trained with image_in %s", args.snapshot, recorded["image_in"])
    report = load_weights(trainer.net, state["state_dict"], allow_partial=True)
    (logger.info if report.complete else logger.warning)("%s: %s", args.snapshot, report)


def train_epoch(
    args: argparse.Namespace,
    trainer: Trainer,
    loaders: Loaders,
    run: Run,
    classes: ClassTable,
    last_iteration: int,
) -> bool:
    """Do the remaining steps of the epoch, up to `last_iteration`; return whether it is complete.

    The host waits for the device only at log lines.
    """
    epoch = trainer.start_epoch(last_iteration, TEST_MODE_ITERATIONS if args.test_mode else None)
    if epoch.done == epoch.stop:
        return epoch.complete
    targets = endless(loaders.target) if loaders.target else repeat(None)
    batches = islice(zip(loaders.train, targets, strict=False), epoch.stop - epoch.done)
    progress = {"total": epoch.stop, "initial": epoch.done, "disable": not distributed.is_main()}
    bar = tqdm(batches, f"epoch {trainer.epoch}", leave=False, **progress)
    for step, (batch, target) in enumerate(bar, start=epoch.done + 1):
        if args.dump_augmentation_images and step == 1:
            prefix = run.checkpoints / f"augmentation/epoch_{trainer.epoch}_rank_{distributed.rank()}"
            visualize.save_batch(trainer.to_device(batch)[0], batch["name"], prefix, args.image_in)
        trainer.step(batch, target)
        if step % LOG_EVERY == 0 or step == epoch.stop:
            log_step(trainer, run, step)
            if trainer.teacher:
                tensorboard.self_training(run.writer, trainer.adaptation, classes, trainer.iteration)
    if trainer.teacher:
        labelled, keys = trainer.adaptation.labelled_views, ("student", "probs", "pseudo_label")
        views = {key: labelled[key][: args.sac_views] for key in keys}
        tensorboard.target_views(run.writer, views, classes, args.image_in, trainer.epoch)
    return epoch.complete


def log_step(trainer: Trainer, run: Run, step: int) -> None:
    """Log the mean losses since the last log line; raises UserError if they are not finite."""
    means, seconds = trainer.means.take()
    lr = trainer.schedule.get_last_lr()[0]
    text = "[epoch %d], [iter %d / %d : %d], [loss %.6f], [lr %.6f], [time %.4f]"
    steps = len(trainer.loaders.train)
    logger.info(text, trainer.epoch, step, steps, trainer.iteration, means["train"], lr, seconds)
    tensorboard.losses(run.writer, means, lr, trainer.iteration)
    if not math.isfinite(means["train"]):
        losses = ", ".join(f"{name} {mean}" for name, mean in means.items())
        raise UserError(f"the loss is not finite at iteration {trainer.iteration}: {losses}; lower --lr")


def statistics_due(args: argparse.Namespace, epoch: int) -> bool:
    """Whether ISW masks are estimated after `epoch`: once, or (--dynamic) every cov_stat_epoch + 1 epochs."""
    if args.dynamic:
        return epoch % (args.cov_stat_epoch + 1) == args.cov_stat_epoch
    return epoch == args.cov_stat_epoch


def validation_due(args: argparse.Namespace, trainer: Trainer, loaders: Loaders) -> dict[str, DataLoader]:
    """Return the loaders of what is validated after this epoch (--val_every); at the end of the run, all."""
    if trainer.iteration >= args.max_iter or trainer.epoch + 1 == args.max_epoch:
        return loaders.val
    due = {*args.val_dataset, *args.select_on} - set(args.own_val if "select_on" not in args.given else ())
    last = (trainer.epoch + 1) % args.val_every == 0
    return {name: loader for name, loader in loaders.val.items() if last and name in due}


def validate_all(
    trainer: Trainer, loaders: dict[str, DataLoader], run: Run, args: argparse.Namespace, classes: ClassTable
) -> dict[str, Scores]:
    """Score the network, and its teacher as NAME-teacher, on validation datasets; log and draw."""
    nets = {"": trainer.net} | ({"-teacher": trainer.teacher} if trainer.teacher else {})
    scores = {}
    for suffix, net in nets.items():
        for dataset, loader in loaders.items():
            name = dataset + suffix
            maps = covariances_of(net) if args.visualize_feature else None
            options = name, trainer.epoch, classes, args.image_in, maps
            draw = tensorboard.ValidationPictures(run.writer, *options)
            bar = tqdm(loader, f"validate {name}", disable=not distributed.is_main(), leave=False)
            scores[name], left_out = validate(net, bar, len(classes), cross_entropy, draw)
            tensorboard.scores(run.writer, name, scores[name], trainer.epoch)
            text = ", ".join(f"{tag} {value:.5f}" for tag, value in scores[name]._asdict().items())
            logger.info("[epoch %d], %s: %s", trainer.epoch, name, text)
            if left_out:
                logger.warning("%s: %d images were left out of the validation", name, left_out)
    return scores


def covariances_of(net: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    """Return the function from images to the covariances (B, C, C) of the maps that `net` whitens."""
    return lambda image: [covariance(maps) for maps in net.whitened_maps(image)]


if __name__ == "__main__":
    with exit_cleanly():
        main(config.parse_train_args())
