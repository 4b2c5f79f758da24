"""Pictures of what a network sees and predicts. A palette is K rows (red, green, blue) of 0..255."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils import pixels
from utils.classes import IGNORE_LABEL
from utils.files import naming_full_disk

Palette = Sequence[Sequence[int]] | np.ndarray


def _ids(ids: Tensor | np.ndarray) -> np.ndarray:
    """(H, W) integers 0..255 on any device -> uint8."""
    return np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids).astype(np.uint8)


def colorize(ids: Tensor | np.ndarray, palette: Palette) -> Image.Image:
    """Paint train ids (H, W) as a palette image (mode "P", its pixels are the ids); ids >= K are black."""
    picture = Image.fromarray(_ids(ids))
    picture.putpalette([*np.asarray(palette, np.uint8).flatten().tolist(), *[0] * (768 - 3 * len(palette))])
    return picture


def denormalize(image: Tensor, image_in: bool = False) -> Image.Image:
    """Turn a normalized image (3, H, W) back into an RGB picture; see `pixels.denormalize`."""
    return Image.fromarray(pixels.denormalize(image, image_in).permute(1, 2, 0).numpy())


def save_batch(images: Tensor, names: Sequence[str], prefix: Path, image_in: bool = False) -> None:
    """Write normalized images (B, 3, H, W) to PREFIX_i_NAME.png."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        file = Path(f"{prefix}_{i}_{name.replace('/', '_')}.png")
        with naming_full_disk(file):
            denormalize(image, image_in).save(file, "PNG")


def blend(photo: Image.Image, colors: Image.Image, alpha: float = 0.5) -> Image.Image:
    """Blend a photo with a colour picture of the same size; `alpha` is the weight of the colours."""
    return Image.blend(photo.convert("RGB"), colors.convert("RGB"), alpha)


def error_map(label: Tensor | np.ndarray, pred: Tensor | np.ndarray) -> Image.Image:
    """Draw (mode "L") where train ids (H, W) disagree: 255 wrong, 0 right or unlabelled."""
    truth, found = _ids(label), _ids(pred)
    return Image.fromarray(np.where((truth != found) & (truth != IGNORE_LABEL), 255, 0).astype(np.uint8))


WIDEST = 1024  # px: of a picture for TensorBoard
PANEL, GAP = 480, 6  # px: about the longer side of a small picture, and the space between two
RIGHT, WRONG, UNLABELLED = (236, 236, 236), (205, 32, 44), (160, 160, 160)


def summary_picture(
    image: Tensor, label: Tensor, pred: Tensor, palette: Palette, image_in: bool = False
) -> Image.Image:
    """Put image | truth | prediction | errors (red) side by side at small size.

    `image` is (3, H, W) normalized, `label` and `pred` are train ids (H, W). Every n-th pixel is shown. An
    unlabelled image has no truth and no errors.
    """
    step = max(1, round(max(pred.shape) / PANEL))
    image, label, pred = image[:, ::step, ::step], label[::step, ::step], pred[::step, ::step]
    panels = [denormalize(image, image_in), colorize(pred, palette)]
    if (label != IGNORE_LABEL).any():
        kind = np.select([_ids(label) == IGNORE_LABEL, _ids(label) != _ids(pred)], [2, 1], 0)
        panels = [panels[0], colorize(label, palette), panels[1], colorize(kind, (RIGHT, WRONG, UNLABELLED))]
    width, height = panels[0].size
    row = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for i, panel in enumerate(panels):
        row.paste(panel.convert("RGB"), (i * (width + GAP), 0))
    return row


def overlay(image: Tensor, pred: Tensor, palette: Palette, image_in: bool = False) -> Tensor:
    """Blend a normalized image (3, H, W) with the colours of train ids (H, W): small, uint8 (3, h, w)."""
    step = max(1, round(max(pred.shape) / PANEL))
    photo = denormalize(image[:, ::step, ::step], image_in)
    picture = blend(photo, colorize(pred[::step, ::step], palette))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def strip(image: Tensor, label: Tensor, pred: Tensor, palette: Palette, image_in: bool = False) -> Tensor:
    """Put image | truth | prediction side by side for TensorBoard: uint8 (3, h, 3 * w), 3 * w <= WIDEST.

    `image` is (3, H, W) normalized, `label` and `pred` are train ids (H, W). Every n-th pixel is shown.
    """
    step = math.ceil(pred.shape[-1] / (WIDEST // 3))
    image, label, pred = image[:, ::step, ::step], label[::step, ::step], pred[::step, ::step]
    panels = denormalize(image, image_in), colorize(label, palette), colorize(pred, palette)
    row = np.concatenate([np.asarray(panel.convert("RGB")) for panel in panels], axis=1)
    return torch.from_numpy(row).permute(2, 0, 1)


def pseudo_label_rows(
    views: Tensor, probs: Tensor, pseudo_label: Tensor, palette: Palette, image_in: bool = False
) -> Tensor:
    """Put view | predicted class, darker where less confident | pseudo label: uint8 (3, V * h, 3 * w).

    `views` (V, 3, H, W) are normalized, `probs` are (V, K, H, W), `pseudo_label` (V, H, W) holds train ids;
    pixels without a pseudo label (255) are black.
    """
    step = math.ceil(views.shape[-1] / (WIDEST // 3))
    views, probs, pseudo_label = (part[..., ::step, ::step] for part in (views, probs, pseudo_label))
    confidence, pred = probs.max(1)
    width, rows = views.shape[-1], []
    for view, classes, weight, label in zip(views, pred, confidence, pseudo_label, strict=True):
        row = strip(view, classes, label, palette, image_in)
        row[..., width : 2 * width] = (row[..., width : 2 * width] * weight.float().cpu()).byte()
        rows.append(row)
    return torch.cat(rows, 1)


def heatmap(matrix: Tensor) -> Tensor:
    """Draw a matrix (C, C), such as a covariance, as (3, C, C) in [0, 1] for TensorBoard.

    White is 0, red is positive, blue is negative; the largest absolute value has the full colour. Covariances
    of standardized features have 1 on the diagonal, so their pictures share one scale.
    """
    value = matrix.detach().float().cpu().nan_to_num(0.0)
    value = value / value.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack([1 + value.clamp(max=0), 1 - value.abs(), 1 - value.clamp(min=0)])
