"""Scores of whole images during training. What is wrong with one image costs that image, not the run."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from utils import bars, distributed
from utils.classes import ClassTable
from utils.evaluation.inference import out_of_memory, predict
from utils.evaluation.metrics import ConfusionMatrix
from utils.logging import logger, own_logger
from utils.training import tensorboard
from utils.training.trainer import Scores

VALIDATED = 0.015  # images validated for each one trained on, where --val_every does not tell
Loss = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[Tensor, Tensor, Tensor], None]


class Pictures(NamedTuple):
    """Where the pictures of a validation go, and how they are drawn; see tensorboard.ValidationPictures."""

    writer: tensorboard.Writer
    epoch: int
    classes: ClassTable
    image_in: bool = False
    covariances: Callable[[Any, Tensor], list[Tensor]] | None = None  # StagedNet.covariances

    def of(self, name: str, net: nn.Module) -> tensorboard.ValidationPictures:
        """Return what draws the batches of dataset `name`."""
        maps = partial(self.covariances, net) if self.covariances else None
        options = self.epoch, self.classes, self.image_in, maps
        return tensorboard.ValidationPictures(self.writer, name, *options)


class ValidationPlan(NamedTuple):
    """Which datasets are validated when: `meanwhile` every `every` epochs, `every_dataset` at the end."""

    every_dataset: Mapping[str, DataLoader]
    meanwhile: Mapping[str, DataLoader]
    every: int

    @classmethod
    def of(
        cls,
        every_dataset: Mapping[str, DataLoader],
        meanwhile: Mapping[str, DataLoader],
        *,
        nets: int,
        images_per_epoch: int,
        epochs: float,
        every: int | None,
    ) -> "ValidationPlan":
        """Return the plan of a run of `epochs`, each of `images_per_epoch`, that validates `nets` networks.

        Where `every` is None, a validation comes as often as it takes less than 5% of the time: an image
        validated takes one to three times as long as one trained on.
        """
        if every is None:
            datasets: list[Any] = [loader.dataset for loader in meanwhile.values()]
            images = nets * sum(map(len, datasets))
            every = max(1, math.ceil(images / max(1, VALIDATED * images_per_epoch)))
            if images and every < epochs:
                text = "validating every %d epochs (--val_every), in under 5%% of the time, and at the end"
                logger.info(text, every)
            elif images:
                logger.info("validating at the end only, unless --val_every says how often")
        return cls(every_dataset, meanwhile, every)

    def due(self, epoch: int, end: bool) -> Mapping[str, DataLoader]:
        """Return what is validated after `epoch`, counted from 0, which may be the `end` of the run."""
        if end:
            return self.every_dataset
        return {} if (epoch + 1) % self.every else self.meanwhile


def validate_all(
    nets: Mapping[str, nn.Module],
    loaders: Mapping[str, DataLoader],
    loss: Loss,
    pictures: Pictures,
    show: bars.Show = bars.over,
) -> dict[str, Scores]:
    """Score networks, by the suffix of their names, on datasets; log, plot and draw; `show` the progress."""
    scores = {}
    for suffix, net in nets.items():
        for dataset, loader in loaders.items():
            name = dataset + suffix
            data: Any = loader.dataset
            batches = show(loader, f"validation on {name}: batch")
            options = len(pictures.classes), loss, pictures.of(name, net), data.occurring
            scores[name], ious, left_out = validate(net, batches, *options)
            tensorboard.scores(pictures.writer, name, scores[name], pictures.epoch)
            by_class = {key: iou for key, iou in zip(pictures.classes.names, ious, strict=True) if iou == iou}
            tensorboard.class_scores(pictures.writer, name, scores[name], by_class, pictures.epoch)
            text = ", ".join(f"{tag} {value:.5f}" for tag, value in scores[name]._asdict().items())
            logger.info("[epoch %d], %s: %s", pictures.epoch, name, text)
            text = ", ".join(f"{key} {100 * iou:.2f}" for key, iou in by_class.items())
            logger.info("IoU (%%) of the %d classes of %s: %s", len(by_class), name, text)
            if left_out:
                logger.warning("%s: %d images were left out of the validation", name, left_out)
    return scores


@torch.no_grad()
def validate(
    net: nn.Module,
    loader: Iterable[dict],
    num_classes: int,
    loss: Loss,
    draw: Draw | None = None,
    occurring: Sequence[int] | None = None,
) -> tuple[Scores, list[float], int]:
    """Score whole images of one dataset, in which the classes `occurring` occur, over all processes.

    Return the scores, the IoU of each class in the mean (nan for others), and how many images were left out.
    `loader` collates by datasets.readable.collate_by_size. `loss(logits, label)` is the mean over a batch.
    `draw(image, label, pred)` sees every batch. An image that cannot be read, or for which the memory does
    not suffice, is left out, and the log names it. The scores of no image at all are nan.
    """
    net.eval()
    device = next(net.parameters()).device
    confusion = ConfusionMatrix(num_classes)
    loss_sum, images, left_out = torch.zeros(3, device=device).unbind()
    for batch in chain.from_iterable(whole.get("batches", [whole]) for whole in loader):
        reasons = batch.get("unreadable", [])
        if not reasons:
            image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
            try:
                logits = predict(net, image, mode="whole")
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                reasons = [f"{name}: the memory does not suffice" for name in batch["name"]]
        if reasons:
            left_out += len(reasons)
            own_logger.warning("left out of the validation: %s", "; ".join(reasons))
            continue
        pred = logits.argmax(1)
        loss_sum += loss(logits, label) * len(image)
        images += len(image)
        confusion.update(label, pred)
        if draw:
            draw(image, label, pred)
    confusion.all_reduce()
    for total in (loss_sum, images, left_out):
        distributed.sum_in_place(total)
    summary = confusion.summary(occurring)
    scores = Scores(summary.acc, summary.acc_cls, summary.mean_iu, (loss_sum / images).item())
    ious = [iou if k in summary.averaged else math.nan for k, iou in enumerate(summary.iou)]
    return scores, ious, int(left_out)
