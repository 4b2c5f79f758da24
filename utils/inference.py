"""Class scores of whole images: sliding windows, pooled scales and mirrors, or one plain pass."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODES = ("sliding", "pooling", "whole")


def tile_boxes(height: int, width: int, crop: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """List the windows (x1, y1, x2, y2), in px, end exclusive, that cover an image, column by column.

    All have one size: `crop` square, or the image's side where that is smaller. Neighbours are
    ceil(crop * (1 - overlap)) apart; the last one is moved back inside the image.
    Raises ValueError for a crop below 1 or an overlap outside [0, 1).
    """
    if crop < 1 or not 0 <= overlap < 1:
        raise ValueError(f"crop {crop}, overlap {overlap}: expected crop >= 1 px and 0 <= overlap < 1")
    stride = math.ceil(crop * (1 - overlap))
    window_h, window_w = min(crop, height), min(crop, width)

    def starts(side: int, window: int) -> list[int]:
        return [min(i * stride, side - window) for i in range(math.ceil((side - window) / stride) + 1)]

    columns, rows = starts(width, window_w), starts(height, window_h)
    return [(x, y, x + window_w, y + window_h) for x in columns for y in rows]


def _sliding(net: nn.Module, views: Tensor, crop: int, overlap: float, batch_size: int) -> Tensor:
    """Average the logits of all windows, (N, 3, H, W) -> (N, K, H, W)."""
    height, width = views.shape[-2:]
    areas = [(slice(y1, y2), slice(x1, x2)) for x1, y1, x2, y2 in tile_boxes(height, width, crop, overlap)]
    windows = [(n, rows, columns) for n in range(len(views)) for rows, columns in areas]
    total = None
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        logits = net(torch.stack([views[n, :, rows, columns] for n, rows, columns in batch])).logits.float()
        if total is None:
            total = logits.new_zeros(len(views), logits.shape[1], height, width)
        for (n, rows, columns), window in zip(batch, logits, strict=True):
            total[n, :, rows, columns] += window
    counts = views.new_zeros(height, width, dtype=torch.float32)
    for rows, columns in areas:
        counts[rows, columns] += 1
    return total / counts


def _scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    if not 0 < scale < math.inf:
        raise ValueError(f"scale {scale} is no size factor; expected a number above 0, such as 0.5")
    size = int(height * scale), int(width * scale)
    if min(size) < 1:
        raise ValueError(f"scale {scale} leaves nothing of an image of {height}x{width} px (height x width)")
    return size


@torch.inference_mode()
def predict(
    net: nn.Module,
    image: Tensor,
    *,
    mode: str = "sliding",
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    flip: bool = True,
    crop: int = 1024,
    overlap: float = 1 / 3,
    max_tiles: int = 4,
) -> Tensor:
    """Return class scores (B, K, H, W), float32, of normalized images (B, 3, H, W) on the network's device.

    `net` is in eval mode and maps (N, 3, h, w) to an output whose `logits` are (N, K, h, w). Modes:

    - "sliding": at each scale, for the image and (`flip`) its mirror, the logits of windows of
      crop * max(scale, 1) px (see `tile_boxes`) are averaged where they overlap, then over mirror and scales.
    - "pooling": the whole image at each scale and its mirror; softmax probabilities are averaged.
    - "whole": logits of one pass over the image as it is; `scales` and `flip` do not apply.

    Images are resized bicubic with antialiasing, scores bilinear, both with half-pixel centres. Every pixel
    is averaged over its true number of windows (the published evaluator mixes up the axes). `max_tiles`
    windows of crop x crop px enter the network at once (fewer above scale 1, where windows are larger).
    Raises ValueError for an unknown mode and for a scale that is not above 0 or leaves no pixel.
    """
    if mode not in MODES:
        raise ValueError(f"inference mode {mode!r} is unknown; choose one of {', '.join(MODES)}")
    if mode == "whole":
        scales, flip = (1.0,), False
    height, width = image.shape[-2:]
    sizes = [_scaled_size(height, width, scale) for scale in scales]
    if not sizes:
        raise ValueError("no scale is given; expected at least one, such as 1.0")

    total: Tensor | None = None
    for scale, size in zip(scales, sizes, strict=True):
        views = image
        if size != (height, width):
            views = F.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
        if flip:
            views = torch.cat([views, views.flip(-1)])
        if mode == "sliding":
            enlarged = max(scale, 1)
            batch_size = max(1, int(max_tiles / enlarged**2))
            scores = _sliding(net, views, int(crop * enlarged), overlap, batch_size)
        else:
            scores = net(views).logits.float()
        if mode == "pooling":
            scores = scores.softmax(1)
        if flip:
            straight, mirrored = scores.chunk(2)
            scores = (straight + mirrored.flip(-1)) / 2
        if scores.shape[-2:] != (height, width):
            scores = F.interpolate(scores, (height, width), mode="bilinear", align_corners=False)
        total = scores if total is None else total + scores
    return total / len(sizes)
