"""What a training run draws and plots in TensorBoard."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from utils import visualize
from utils.classes import ClassTable
from utils.training.events import EventWriter, NoWriter
from utils.training.trainer import Scores

OVERLAYS = 4  # validation images of each dataset that are drawn after every epoch
Writer: TypeAlias = EventWriter | NoWriter


def losses(writer: Writer, means: Mapping[str, float], lr: float, iteration: int) -> None:
    """Plot the mean losses since the last log line and the learning rate."""
    for name, mean in means.items():
        writer.add_scalar(f"loss/{name}_loss", mean, iteration)
    writer.add_scalar("lr", lr, iteration)


def scores(writer: Writer, name: str, values: Scores, epoch: int) -> None:
    """Plot the scores of validation dataset `name`."""
    for tag, value in values._asdict().items():
        writer.add_scalar(f"{name}/{tag}", value, epoch)


def class_scores(writer: Writer, name: str, values: Scores, ious: Mapping[str, float], epoch: int) -> None:
    """Plot the IoU of the mean and of each class of dataset `name`, datasets of one tag side by side."""
    writer.add_scalar(f"mean_iu/{name}", values.mean_iu, epoch)
    for class_name, iou in ious.items():
        writer.add_scalar(f"iou_{class_name.replace(' ', '_')}/{name}", iou, epoch)


class ValidationPictures:
    """Draws the first images of a validation dataset; called with the batches in turn.

    `whitened_maps(image)` returns the maps whose covariances are drawn too (--visualize_feature).
    """

    def __init__(
        self,
        writer: Writer,
        name: str,
        epoch: int,
        classes: ClassTable,
        image_in: bool = False,
        covariances: Callable[[Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        self.writer, self.name, self.epoch = writer, name, epoch
        self.palette, self.image_in, self.covariances = classes.colors, image_in, covariances
        self.drawn = 0

    def __call__(self, image: Tensor, label: Tensor, pred: Tensor) -> None:
        """Draw images (B, 3, H, W), normalized, with label and pred (B, H, W), up to OVERLAYS in all."""
        if not self.drawn:
            strip = visualize.strip(image[0], label[0], pred[0], self.palette, self.image_in)
            self.writer.add_image(f"{self.name}/image-truth-prediction", strip, self.epoch)
            for i, matrices in enumerate(self.covariances(image) if self.covariances else ()):
                picture = visualize.heatmap(matrices[0])
                self.writer.add_image(f"valid/Covariance/Feature-{i}", picture, self.epoch)
        for photo, ids in zip(image[: OVERLAYS - self.drawn], pred, strict=False):
            overlay = visualize.overlay(photo, ids, self.palette, self.image_in)
            self.writer.add_image(f"{self.name}/overlay-{self.drawn}", overlay, self.epoch)
            self.drawn += 1


def masks(writer: Writer, whitening: Any, iteration: int) -> list[float]:
    """Draw the ISW masks and the variances they were estimated from; return the selected shares."""
    shares = []
    for i, mask in enumerate(whitening.masks):
        channels = len(mask.mask)
        share = mask.num_selected.item() / (channels * (channels - 1) / 2)
        writer.add_scalar(f"whitening/sensitive-{i}", share, iteration)
        writer.add_image(f"whitening/mask-{i}", mask.mask[None].float(), iteration)
        writer.add_image(f"whitening/variance-{i}", visualize.heatmap(mask.variance), iteration)
        shares.append(share)
    return shares


def self_training(writer: Writer, adaptation: Any, classes: ClassTable, iteration: int) -> None:
    """Plot the class prior, and the share of each class's pixels that had a pseudo label."""
    prior, labelled = adaptation.class_prior.prior.tolist(), adaptation.labelled_share().tolist()
    for name, prior_share, labelled_share in zip(classes.names, prior, labelled, strict=True):
        writer.add_scalar(f"prior/{name}", prior_share, iteration)
        writer.add_scalar(f"kept/{name}", labelled_share, iteration)


def target_views(
    writer: Writer, views: Mapping[str, Tensor], classes: ClassTable, image_in: bool, epoch: int
) -> None:
    """Draw the student's views of one target image, the fused prediction and the pseudo label."""
    picture = visualize.pseudo_label_rows(
        views["student"], views["probs"], views["pseudo_label"], classes.colors, image_in
    )
    writer.add_image("views/student-fused-label", picture, epoch)
