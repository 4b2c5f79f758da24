"""Train a segmentation network on source domains and validate it on domains it never sees.

    torchrun --nproc_per_node=N train.py --dataset gtav --val_dataset cityscapes bdd100k ...

Also `python -m torch.distributed.launch --nproc_per_node=N train.py ...` and plain `python train.py ...`.
One training step is `Trainer.step` in utils/training/trainer.py.
"""

import argparse
import math
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

import config
from datasets import get_dataset_class
from datasets.loaders import Loaders, endless, setup_classes, setup_loaders
from loss import cross_entropy, get_loss
from network import StagedNet, get_adaptation, get_net
from network.archs import check_version
from network.instance_whitening import Whitening
from network.segmenter import chosen
from network.synchronization import synchronize
from network.weights import load_weights
from optimizer import get_optimizer
from utils import checkpoint, distributed, inventory, settings, visualize
from utils.classes import ClassTable
from utils.errors import naming
from utils.exit import exit_cleanly
from utils.logging import logger, setup, warn_in_log
from utils.norms import Norm
from utils.signals import StopSignal
from utils.training import resume, speed, tensorboard
from utils.training.determinism import set_deterministic
from utils.training.profiling import profiling
from utils.training.run import Run, check_writable
from utils.training.saving import Keeper
from utils.training.statistics import estimate_masks
from utils.training.steps import StepLog
from utils.training.trainer import Epoch, Trainer
from utils.training.validation import Pictures, ValidationPlan, validate_all

LOG_EVERY = 50  # iterations


def main(args: argparse.Namespace) -> None:
    set_deterministic(args.deterministic)
    device = distributed.init(args.local_rank, args.num_workers)
    setup()
    with StopSignal(device, resume.command("auto")) as stop:
        torch.manual_seed(args.seed)
        classes = setup_classes(args)
        args = config.complete(args, distributed.world_size(), len(classes))
        continued = resolve_start(args)
        state = checkpoint.load_on_all(args.snapshot) if args.snapshot else {}
        trainer, loaders = build(args, classes, device, state)
        stopped = args.stop_after and trainer.iteration >= args.stop_after
        if continued and (stopped or (finished(args, trainer) and not trainer.pending)):
            kind = "an already stopped (--stop_after)" if stopped else "a finished"
            text = "%s is of %s run, iteration %d: nothing is left to do"
            logger.info(text, continued, kind, trainer.iteration)
            return
        if distributed.world_size() > 1:
            synchronize(trainer.net, config.images_per_sample(args))
            trainer.join()
        options: dict[str, Any] = {"again": args.resume == "auto" or resume.restarted()}  # see Run
        if continued:
            options = {"continued": continued.parent, "position": state.get("events")}
        digest = state.get("sha256")
        del state  # its memory is needed
        run = Run(args.ckpt, args.tb_path, args.date, args.exp, args.tb_tag, **options)
        stop.command = resume.command(run.checkpoints)
        if continued:
            logger.info("continuing %s from iteration %d", continued, trainer.iteration)
        announce(args, trainer)
        run.record(facts(args, trainer, digest))
        distributed.limit_waiting()
        keeper = Keeper(
            trainer,
            run,
            next(iter(loaders.val), "unscored"),
            select=args.select_on,
            keep_last=args.keep_last,
            every=args.save_every_iters,
        )
        with run, keeper, profiling(trainer, run.checkpoints if args.profile else None):
            train(args, keeper, stop)
        logger.info("checkpoints and log in %s, TensorBoard in %s", run.checkpoints, run.tensorboard)


def resolve_start(args: argparse.Namespace) -> Path | None:
    """Set `snapshot` to the file of the checkpoint to start from; return the one that --resume continues."""
    experiment = Path(args.ckpt, args.date, args.exp)
    distributed.from_first_rank(lambda: check_writable(experiment, Path(args.tb_path, args.date, args.exp)))
    continued = distributed.from_first_rank(lambda: resume.find(args.resume, experiment))
    if continued:
        args.snapshot, args.restore_optimizer, args.pretrained = str(continued), True, "none"
    elif args.snapshot:  # a wrong path is found at once
        args.snapshot = str(distributed.from_first_rank(lambda: checkpoint.find(args.snapshot)))
    return continued


def train(args: argparse.Namespace, keeper: Keeper, stop: StopSignal) -> None:
    """Train epoch after epoch; after each, save, estimate the masks that are due, validate and save."""
    trainer, run = keeper.trainer, keeper.run
    loaders: Any = trainer.loaders
    log = StepLog(trainer, run.writer, config.last_iteration(args, len(loaders.train)))
    show = keeper.watched(log.bar.within)  # shows progress; raises errors of writing a checkpoint
    nets = {"": trainer.net} | ({"-teacher": trainer.teacher} if trainer.teacher else {})
    plan = validation_plan(args, loaders, len(nets))
    while trainer.pending or not finished(args, trainer):
        with stop.recording(keeper.settle):  # a signal received in this block raises Stopped at its end
            epoch, stopped = train_epoch(args, keeper, stop, log)
            keeper.save()  # now, because what follows can fail
            if stopped or trainer.iteration == args.stop_after:
                keeper.settle()
                logger.info("iteration %d is saved in %s", trainer.iteration, run.checkpoints)
        if trainer.iteration == args.stop_after:
            return
        selective = trainer.whitening.selective
        masks_due = selective and epoch.complete and config.statistics_due(args, trainer.epoch)
        if masks_due:
            estimate_masks(trainer, loaders.statistics, args.trials, run.writer, show)
        maps = StagedNet.covariances if args.visualize_feature else None
        pictures = Pictures(run.writer, trainer.epoch, loaders.classes, args.image_in, maps)
        due = plan.due(trainer.epoch, end=finished(args, trainer, trainer.epoch + 1))
        scores = validate_all(nets, due, cross_entropy, pictures, show)
        if masks_due or scores:
            keeper.save(scores, epoch.complete)
        trainer.epoch, trainer.pending = trainer.epoch + 1, False
    keeper.finish()
    log.bar.close()
    if loaders.val:
        choosers = ", ".join(args.select_on) or "no dataset"
        logger.info("report the scores of last_...; labels of %s chose best_...", choosers)
    else:
        logger.info("nothing was validated; eval.py scores last_...")


def build(
    args: argparse.Namespace, classes: ClassTable, device: torch.device, state: dict[str, Any]
) -> tuple[Trainer, Loaders]:
    """Build the trainer, from the checkpoint `state` if there is one, and the loaders of its data.

    The network comes first, because a wrong flag or a checkpoint that does not fit is found in seconds, while
    listing and reading datasets can take long. It is moved to the device after that.
    """
    net = get_net(args, len(classes))
    whitening = Whitening.for_network(net, clusters=args.clusters, relax_denom=args.relax_denom)
    vars(args).update(speed.choose(vars(args), device))
    record = settings.record(
        vars(args),
        classes=classes.to_dict(),
        optimizer="Adam" if args.adam else "SGD",
        adaptation=args.sac_phase if args.adapt_dataset else "none",
        processes=distributed.world_size(),
        images_per_step=config.images_per_step(args, distributed.world_size()),
    )
    if state:
        start_from(args, net, record, state)
    loaders = setup_loaders(args)
    inventory.check_alike(loaders.files, args.strict_data)
    net.to(device, memory_format=torch.channels_last if args.channels_last else torch.preserve_format)
    adaptation = get_adaptation(args, net, len(classes))
    optimizer, schedule = get_optimizer(args, net)
    losses = get_loss(args, classes).to(device)
    parts = net, losses, whitening.to(device), optimizer, schedule, loaders, record
    trainer = Trainer(*parts, adaptation.to(device) if adaptation else None)
    if args.restore_optimizer:
        with naming(args.snapshot):
            trainer.load_state_dict(state)
        inventory.check(state.get("data", {}), loaders.files, args.strict_data)
    return trainer, loaders


def announce(args: argparse.Namespace, trainer: Trainer) -> None:
    """Log what is trained; warn if the flags end the run early or leave its whitening loss off."""
    logger.info("%s on %d x %s", args.arch, distributed.world_size(), trainer.device.type)
    if target := trainer.loaders.target:
        text = "adapting to %d images of %s, phase %s"
        logger.info(text, len(target.dataset), args.adapt_dataset, args.sac_phase)
    steps = config.epoch_steps(args, len(trainer.loaders.train))
    last = config.last_iteration(args, len(trainer.loaders.train))
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


def facts(args: argparse.Namespace, trainer: Trainer, digest: str | None) -> dict[str, Any]:
    """Return the entries of run.json: all flags, the datasets, and --snapshot, whose hash is `digest`."""
    loaders: Any = trainer.loaders
    used = {"train": loaders.train, "target": loaders.target} | loaders.val
    parent = {"file": args.snapshot, "iteration": trainer.iteration, "continued": args.restore_optimizer}
    return {
        "flags": trainer.settings,
        "images": {name: len(loader.dataset) for name, loader in used.items() if loader},
        "roots": {name: str(args.roots(get_dataset_class(name))) for name in [*args.dataset, *loaders.val]},
        "parent": parent | {"sha256": digest} if args.snapshot else None,
    }


def finished(args: argparse.Namespace, trainer: Trainer, epochs: int | None = None) -> bool:
    """Whether training has reached --max_iter, --max_epoch, or the one epoch of a run without images.

    `epochs` is how many have ended, by default the trainer's own count.
    """
    most = args.max_epoch or (math.inf if len(trainer.loaders.train) else 1)
    return trainer.iteration >= args.max_iter or (trainer.epoch if epochs is None else epochs) >= most


def start_from(
    args: argparse.Namespace, net: nn.Module, record: dict[str, Any], state: dict[str, Any]
) -> None:
    """Check that `state`, read from --snapshot, fits this run's `record` of settings; load its weights.

    If the run is continued (--restore_optimizer), `build` loads the weights later, with all else in `state`.
    """
    check_version(args.arch, state, args.snapshot)
    recorded = settings.recorded(state)
    if args.restore_optimizer:
        with naming(args.snapshot):
            settings.compare(recorded, record)
        return
    chosen("arch", record["arch"], recorded.get("arch"), args.snapshot)  # UserError if they differ
    if recorded.get("image_in", args.image_in) != args.image_in:
        logger.warning("%s was trained with image_in %s", args.snapshot, recorded["image_in"])
    report = load_weights(net, state["state_dict"], allow_partial=True)
    (logger.info if report.complete else logger.warning)("%s: %s", args.snapshot, report)


def train_epoch(
    args: argparse.Namespace, keeper: Keeper, stop: StopSignal, log: StepLog
) -> tuple[Epoch, bool]:
    """Do the remaining steps of the epoch; return it, and whether a signal stopped it.

    The host waits for the device only at log lines and where a checkpoint is due.
    """
    trainer, run = keeper.trainer, keeper.run
    loaders: Any = trainer.loaders
    epoch = trainer.start_epoch(args.max_iter, config.epoch_steps(args, len(loaders.train)))
    if epoch.done == epoch.stop:
        return epoch, stop.requested()
    targets = endless(loaders.target) if loaders.target else repeat(None)
    batches = islice(zip(loaders.train, targets, strict=False), epoch.stop - epoch.done)
    for step, (batch, target) in enumerate(log.timed(batches), start=epoch.done + 1):
        if args.dump_augmentation_images and step == 1:
            prefix = run.checkpoints / f"augmentation/epoch_{trainer.epoch}_rank_{distributed.rank()}"
            visualize.save_batch(trainer.to_device(batch)[0], batch["name"], prefix, args.image_in)
        trainer.step(batch, target)
        keeper.writer.check()  # whether a checkpoint could be written
        log.guard.check(batch["name"])  # whether gradients are finite
        seconds_per_step = None
        if step % LOG_EVERY == 0 or step == epoch.stop:
            seconds_per_step = log.write(step, len(loaders.train))
            if trainer.teacher:
                tensorboard.self_training(run.writer, trainer.adaptation, loaders.classes, trainer.iteration)
        if step == epoch.stop:
            break
        if (stopped := stop.requested()) or trainer.iteration == args.stop_after:
            return epoch, stopped
        if keeper.due(seconds_per_step):
            keeper.save()
    if trainer.teacher:
        views = {key: value[: args.sac_views] for key, value in trainer.adaptation.labelled_views.items()}
        tensorboard.target_views(run.writer, views, loaders.classes, args.image_in, trainer.epoch)
    return epoch, stop.requested()


def validation_plan(args: argparse.Namespace, loaders: Loaders, nets: int) -> ValidationPlan:
    """Plan the validation of `nets` networks: on all datasets at the end, on some between epochs."""
    between = {*args.val_dataset, *args.select_on}
    if "select_on" not in args.given:
        between -= set(args.own_val)  # the training domains' own val splits
    steps = config.epoch_steps(args, len(loaders.train))
    return ValidationPlan.of(
        loaders.val,
        {name: loader for name, loader in loaders.val.items() if name in between},
        nets=nets,
        images_per_epoch=config.images_per_step(args, distributed.world_size()) * steps,
        epochs=config.last_iteration(args, len(loaders.train)) / max(1, steps),
        every=args.val_every,
    )


if __name__ == "__main__":
    with exit_cleanly(launched=True):
        warn_in_log()
        main(config.parse_train_args())
