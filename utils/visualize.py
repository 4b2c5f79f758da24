"""Pictures of what a network sees and predicts. A palette is K rows (red, green, blue) of 0..255."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils import pixels

Palette = Sequence[Sequence[int]] | np.ndarray


def _ids(ids: Tensor | np.ndarray) -> np.ndarray:
    """(H, W) integers 0..255 on any device -> uint8."""
    return np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids).astype(np.uint8)


def colorize(ids: Tensor | np.ndarray, palette: Palette) -> Image.Image:
    """Paint train ids (H, W) as a palette image (mode "P": pixels stay the ids); ids from K up are black."""
    picture = Image.fromarray(_ids(ids))
    picture.putpalette([*np.asarray(palette, np.uint8).flatten().tolist(), *[0] * (768 - 3 * len(palette))])
    return picture


def denormalize(image: Tensor, image_in: bool = False) -> Image.Image:
    """Turn a normalized image (3, H, W) back into the RGB picture it came from (rounded, clipped to 0..255).

    With `image_in` (normalized by its own mean and std, which are not known here) its range is stretched.
    """
    return Image.fromarray(pixels.denormalize(image, image_in).permute(1, 2, 0).numpy())


def save_batch(images: Tensor, names: Sequence[str], prefix: Path, image_in: bool = False) -> None:
    """Write normalized images (B, 3, H, W), as the network gets them, to PREFIX_i_NAME.png."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        denormalize(image, image_in).save(f"{prefix}_{i}_{name.replace('/', '_')}.png")


def blend(photo: Image.Image, colors: Image.Image, alpha: float = 0.5) -> Image.Image:
    """Lay a colour picture over a photo of the same size; `alpha` is the colours' share."""
    return Image.blend(photo.convert("RGB"), colors.convert("RGB"), alpha)


def error_map(label: Tensor | np.ndarray, pred: Tensor | np.ndarray, ignore: int = 255) -> Image.Image:
    """Draw (mode "L") where train ids (H, W) disagree: 255 wrong, 0 right or unlabelled."""
    label, pred = _ids(label), _ids(pred)
    return Image.fromarray(np.where((label != pred) & (label != ignore), 255, 0).astype(np.uint8))


PANEL, GAP = 480, 6  # px of a small picture's longer side, about, and between two
RIGHT, WRONG, UNLABELLED = (236, 236, 236), (205, 32, 44), (160, 160, 160)


def summary_picture(
    image: Tensor, label: Tensor, pred: Tensor, palette: Palette, image_in: bool = False
) -> Image.Image:
    """Put image | truth | prediction | errors (red) side by side at small size, unlabelled images without
    truth and errors.

    `image` is (3, H, W) normalized, `label` and `pred` are train ids (H, W); pixels are picked, not averaged.
    """
    step = max(1, round(max(pred.shape) / PANEL))
    image, label, pred = image[:, ::step, ::step], label[::step, ::step], pred[::step, ::step]
    panels = [denormalize(image, image_in), colorize(pred, palette)]
    if (label != 255).any():
        kind = np.select([_ids(label) == 255, _ids(label) != _ids(pred)], [2, 1], 0)
        panels = [panels[0], colorize(label, palette), panels[1], colorize(kind, (RIGHT, WRONG, UNLABELLED))]
    width, height = panels[0].size
    row = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for i, panel in enumerate(panels):
        row.paste(panel.convert("RGB"), (i * (width + GAP), 0))
    return row


def overlay(image: Tensor, pred: Tensor, palette: Palette, image_in: bool = False) -> Tensor:
    """Lay train ids (H, W) over a normalized image (3, H, W), at small size: uint8 (3, h, w)."""
    step = max(1, round(max(pred.shape) / PANEL))
    photo = denormalize(image[:, ::step, ::step], image_in)
    picture = blend(photo, colorize(pred[::step, ::step], palette))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def strip(image: Tensor, label: Tensor, pred: Tensor, palette: Palette, image_in: bool = False) -> Tensor:
    """Put image | truth | prediction side by side for TensorBoard: uint8 (3, H, 3 * W).

    `image` is (3, H, W) normalized, `label` and `pred` are train ids (H, W).
    """
    panels = denormalize(image, image_in), colorize(label, palette), colorize(pred, palette)
    row = np.concatenate([np.asarray(panel.convert("RGB")) for panel in panels], axis=1)
    return torch.from_numpy(row).permute(2, 0, 1)


def taught(images: Tensor, probs: Tensor, label: Tensor, palette: Palette, image_in: bool = False) -> Tensor:
    """Put views | their likeliest class, dark where unsure | pseudo label: uint8 (3, V * H, 3 * W).

    images (V, 3, H, W) are normalized, probs (V, K, H, W), label (V, H, W) train ids, 255 black.
    """
    confidence, best = probs.max(1)
    rows = []
    for view, sure, likeliest, taught_label in zip(images, confidence, best, label, strict=True):
        row = strip(view, likeliest, taught_label, palette, image_in)
        width = view.shape[-1]
        row[..., width : 2 * width] = (row[..., width : 2 * width] * sure.float().cpu()).byte()
        rows.append(row)
    return torch.cat(rows, 1)


def heatmap(matrix: Tensor) -> Tensor:
    """Draw a matrix (C, C), such as a covariance, as (3, C, C) in [0, 1] for TensorBoard.

    White is 0, red positive, blue negative, at full strength where the absolute value is largest. Covariances
    of standardized features have 1 on the diagonal, so that their pictures share one scale.
    """
    value = matrix.detach().float().cpu().nan_to_num(0.0)
    value = value / value.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack([1 + value.clamp(max=0), 1 - value.abs(), 1 - value.clamp(min=0)])
