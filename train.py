"""Train a segmentation network on source domains and validate it on domains it never sees.

    torchrun --nproc_per_node=N train.py --dataset gtav --val_dataset cityscapes bdd100k ...

Also `python -m torch.distributed.launch --nproc_per_node=N train.py ...` and plain `python train.py ...`.
"""

import math
from dataclasses import replace
from itertools import repeat

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

import config
from datasets import NUM_CLASSES
from datasets.labels import TRAIN_ID_COLORS, TRAIN_ID_NAMES
from datasets.loaders import Loaders, endless, setup_loaders
from loss import CLASS_WEIGHTS, MainLoss, aux_cross_entropy, cross_entropy
from network import get_adaptation, get_net
from network.instance_whitening import Whitening, covariance
from network.normalization import synchronize_batch_norm
from optimizer import get_optimizer
from utils import checkpoint, distributed, visualize
from utils.evaluation.inference import predictions
from utils.evaluation.metrics import ConfusionMatrix, Summary
from utils.logging import Run, RunningMeans, exit_cleanly, logger, setup
from utils.training import Training, save

LOG_EVERY = 50  # iterations
AUX_WEIGHT = 0.4
TEST_MODE_ITERATIONS = 7
OVERLAYS = 4  # validation images of each dataset that are drawn after every epoch


def main(args) -> None:
    device = distributed.init(args.local_rank)
    setup()
    torch.manual_seed(args.seed)

    loaders = setup_loaders(args)
    net = get_net(args).to(device)
    whitening = Whitening.for_network(net, clusters=args.clusters, relax_denom=args.relax_denom).to(device)
    adaptation = get_adaptation(args, net)
    if adaptation:
        adaptation.to(device)
    optimizer, schedule = get_optimizer(args, net)
    scaler = torch.amp.GradScaler(device.type, enabled=args.fp16 and device.type == "cuda")
    settings = {
        "arch": args.arch.removeprefix("network.deepv3."),
        "wt_layer": args.wt_layer,
        "optimizer": type(optimizer).__name__,
        "fp16": scaler.is_enabled(),
        "seed": args.seed,
        "adaptation": args.sac_phase if adaptation else "none",
    }
    training = Training(
        net, whitening, optimizer, schedule, scaler, loaders.train, settings, adaptation, loaders.target
    )
    main_loss = MainLoss(
        class_weighted=args.cls_wt_loss,
        image_weighted=args.img_wt_loss,
        relax_boundary=args.jointwtborder,
        upper_bound=args.wt_bound,
        batch_weighting=args.batch_weighting,
        strict_classes=args.strict_classes,
        relax_off_iter=args.rlx_off_iter,
    )
    if args.snapshot:
        state = checkpoint.load(args.snapshot)
        if args.restore_optimizer:
            training.load_state_dict(state)
        else:
            checkpoint.check_settings(state, {"arch": settings["arch"]})
            report = checkpoint.load_weights(net, state["state_dict"], allow_partial=True)
            (logger.info if report.whole else logger.warning)("%s: %s", args.snapshot, report)

    model = net
    if distributed.world_size() > 1:
        synchronize_batch_norm(net)
        model = DistributedDataParallel(net, [device] if device.type == "cuda" else None)
    run = Run(args.ckpt, args.tb_path, args.date, args.exp, args.tb_tag)
    logger.info("%s on %d x %s", args.arch, distributed.world_size(), device.type)
    if adaptation:
        target = f"{len(loaders.target.dataset)} images of {args.adapt_dataset}"
        logger.info("adapting to %s, phase %s", target, args.sac_phase)

    while training.epoch < args.max_epoch and training.iteration < args.max_iter:
        complete = train_epoch(args, training, loaders, model, main_loss, run, device)
        if complete and whitening.selective and statistics_due(args, training.epoch):
            estimate_masks(args, training, loaders.statistics, run, device)
        scores = {
            name: validate(args, training, name, loader, run, device) for name, loader in loaders.val.items()
        }
        if training.teacher:
            taught = replace(training, net=training.teacher)
            for name, loader in loaders.val.items():
                teacher = f"{name}-teacher"
                scores[teacher] = validate(args, taught, teacher, loader, run, device)
        save(training, scores, run.checkpoints, [name for name in args.select_on if name in scores])
        training.epoch += 1
    if whitening.selective and not whitening.trials:
        text = "the ISW loss was never on: epoch %d (--cov_stat_epoch) was not completed"
        logger.warning(text, args.cov_stat_epoch)
    run.writer.close()
    logger.info("checkpoints and log in %s, TensorBoard in %s", run.checkpoints, run.tensorboard)


def train_epoch(
    args, training: Training, loaders: Loaders, model: nn.Module, main_loss: MainLoss, run: Run, device
) -> bool:
    """Step through what is left of the epoch, or until args.max_iter; return whether it is complete.

    The host waits for the device at log lines only.
    """
    loader = loaders.train
    loader.dataset.set_epoch(training.epoch)
    loader.sampler.set_epoch(training.epoch)
    done = training.steps_done()  # > 0 where a run goes on within an epoch
    if not done:
        torch.manual_seed(hash((args.seed, training.epoch, distributed.rank())))  # of the dropout
    model.train()
    if training.adaptation:
        training.adaptation.prepare(training.net)
    whole = min(len(loader), TEST_MODE_ITERATIONS) if args.test_mode else len(loader)
    steps = min(whole, done + args.max_iter - training.iteration)
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    count = loaders.steps_per_batch  # 1, or with --domain_steps separate the number of domains,
    parts = [slice(domain, None, count) for domain in range(count)]  # image b being of domain b % count
    running = RunningMeans()
    progress = {"total": steps, "initial": done, "disable": not distributed.is_main(), "leave": False}
    targets = endless(loaders.target) if loaders.target else repeat(None)
    bar = tqdm(zip(loader, targets, strict=False), f"epoch {training.epoch}", **progress)
    for step, (batch, target) in enumerate(bar, start=done + 1):
        images = batch["image"].to(device, non_blocking=True)  # (B, 3, H, W)
        labels = batch["label"].to(device, non_blocking=True)  # (B, H, W)
        if loaders.photometric:
            images = loaders.photometric(images, batch["photometric"])
        if args.dump_augmentation_images and step == 1:
            prefix = run.checkpoints / f"augmentation/epoch_{training.epoch}_rank_{distributed.rank()}"
            visualize.save_batch(images, batch["name"], prefix, args.image_in)
        for part in parts:
            image, label = images[part], labels[part]
            with torch.autocast(device.type, half, args.fp16):
                output = model(image)
            losses = {"main": main_loss(output.logits, label, training.iteration)}
            if output.aux_logits is not None:
                aux = aux_cross_entropy(output.aux_logits, label, CLASS_WEIGHTS if args.cls_wt_loss else None)
                losses["aux"] = AUX_WEIGHT * aux
            if output.whitened:
                losses["whitening"] = args.wt_reg_weight * training.whitening.loss(output.whitened)

            training.optimizer.zero_grad(set_to_none=True)
            training.scaler.scale(sum(losses.values())).backward()
            if target:  # a pass of its own: the gradients add up
                target.pop("name")
                views = {k: v.flatten(0, 1).to(device, non_blocking=True) for k, v in target.items()}
                with torch.autocast(device.type, half, args.fp16):
                    adapted = training.adaptation.losses(model, views)
                for loss in adapted.values():
                    training.scaler.scale(loss).backward()
                losses |= adapted
            losses["train"] = sum(loss.detach() for loss in losses.values())
            training.scaler.step(training.optimizer)
            training.scaler.update()
            running.add(losses)
        training.schedule.step()
        training.iteration += 1
        loader.sampler.advance(loader.batch_size)

        if step % LOG_EVERY == 0 or step == steps:
            log_step(training, run, running, step, len(loader))
            if training.teacher:
                log_self_training(args, training, run, picture=step == steps)
        if step == steps:
            break
    return steps == whole


def log_step(training: Training, run: Run, running: RunningMeans, step: int, steps: int) -> None:
    """Log the losses since the last log line; an error when they are no numbers any more."""
    means, seconds = running.take()
    lr = training.schedule.get_last_lr()[0]
    text = "[epoch %d], [iter %d / %d : %d], [loss %.6f], [lr %.6f], [time %.4f]"
    logger.info(text, training.epoch, step, steps, training.iteration, means["train"], lr, seconds)
    for name, mean in means.items():
        run.writer.add_scalar(f"loss/{name}_loss", mean, training.iteration)
    run.writer.add_scalar("lr", lr, training.iteration)
    if not math.isfinite(means["train"]):
        raise FloatingPointError(f"the loss is {means['train']} at iteration {training.iteration}: {means}")


def log_self_training(args, training: Training, run: Run, picture: bool) -> None:
    """Log the class prior, the share of each class's pixels that had a pseudo label, and a picture."""
    prior, kept = training.adaptation.class_prior.prior.tolist(), training.adaptation.kept().tolist()
    for name, share, taught in zip(TRAIN_ID_NAMES, prior, kept, strict=True):
        run.writer.add_scalar(f"prior/{name}", share, training.iteration)
        run.writer.add_scalar(f"kept/{name}", taught, training.iteration)
    if picture:
        views = [training.adaptation.taught[key][: args.sac_views] for key in ("student", "probs", "label")]
        rows = visualize.pseudo_label_rows(*views, TRAIN_ID_COLORS, args.image_in)
        run.writer.add_image("views/student-fused-label", rows, training.epoch)


def statistics_due(args, epoch: int) -> bool:
    """Whether ISW masks are estimated after `epoch`: once, or (--dynamic) every cov_stat_epoch + 1 epochs."""
    if args.dynamic:
        return epoch % (args.cov_stat_epoch + 1) == args.cov_stat_epoch
    return epoch == args.cov_stat_epoch


@torch.no_grad()
def estimate_masks(args, training: Training, statistics: dict, run: Run, device: torch.device) -> None:
    """Find the covariances that photometric change moves, intersected over args.trials passes (ISW)."""
    training.net.eval()
    training.whitening.reset()
    for trial in range(args.trials):
        for name, loader in statistics.items():
            loader.sampler.set_epoch(trial)
            loader.dataset.set_epoch(trial)
            bar = tqdm(loader, f"trial {trial} {name}", disable=not distributed.is_main(), leave=False)
            for batch in bar:
                pair = torch.cat([batch["view"], batch["image"]]).to(device)  # all views, then all originals
                training.whitening.observe(training.net.whitened_maps(pair))
        training.whitening.finish_trial()
    for i, mask in enumerate(training.whitening.masks):
        channels = len(mask.mask)
        share = mask.num_selected.item() / (channels * (channels - 1) / 2)
        text = "whitened map %d: %d sensitive covariances, %.2f%%"
        logger.info(text, i, mask.num_selected, 100 * share)
        run.writer.add_scalar(f"whitening/sensitive-{i}", share, training.iteration)
        run.writer.add_image(f"whitening/mask-{i}", mask.mask[None].float(), training.iteration)
        run.writer.add_image(f"whitening/variance-{i}", visualize.heatmap(mask.variance), training.iteration)


@torch.no_grad()
def validate(
    args, training: Training, name: str, loader: DataLoader, run: Run, device: torch.device
) -> Summary:
    """Score whole images of one dataset and log loss, metrics and pictures of the first images."""
    training.net.eval()
    confusion = ConfusionMatrix(NUM_CLASSES)
    loss_sum, images = torch.zeros(2, device=device).unbind()
    bar = tqdm(loader, f"validate {name}", disable=not distributed.is_main(), leave=False)
    shown = 0
    for _, image, label, logits in predictions(training.net, bar, device, mode="whole"):
        pred = logits.argmax(1)
        loss_sum += cross_entropy(logits, label) * len(image)
        images += len(image)
        confusion.update(label, pred)
        if not shown:
            strip = visualize.strip(image[0], label[0], pred[0], TRAIN_ID_COLORS, args.image_in)
            run.writer.add_image(f"{name}/image-truth-prediction", strip, training.epoch)
            if args.visualize_feature:
                for j, maps in enumerate(training.net.whitened_maps(image)):
                    picture = visualize.heatmap(covariance(maps)[0])
                    run.writer.add_image(f"valid/Covariance/Feature-{j}", picture, training.epoch)
        for photo, classes in zip(image[: OVERLAYS - shown], pred, strict=False):
            overlay = visualize.overlay(photo, classes, TRAIN_ID_COLORS, args.image_in)
            run.writer.add_image(f"{name}/overlay-{shown}", overlay, training.epoch)
            shown += 1
    confusion.all_reduce()
    loss = (distributed.sum_in_place(loss_sum) / distributed.sum_in_place(images)).item()
    summary = confusion.summary()
    scores = {"acc": summary.acc, "acc_cls": summary.acc_cls, "mean_iu": summary.mean_iu, "val_loss": loss}
    for tag, value in scores.items():
        run.writer.add_scalar(f"{name}/{tag}", value, training.epoch)
    text = ", ".join(f"{tag} {value:.5f}" for tag, value in scores.items())
    logger.info("[epoch %d], %s: %s", training.epoch, name, text)
    return summary


if __name__ == "__main__":
    with exit_cleanly():
        main(config.parse_train_args())
