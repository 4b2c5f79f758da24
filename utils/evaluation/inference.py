"""Class scores of whole images: sliding windows, pooled scales and mirrors, or one plain pass."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.errors import UserError
from utils.evaluation import memory
from utils.evaluation.calibration import confidence_of
from utils.evaluation.resizing import Resizable
from utils.evaluation.strips import classify_in_strips, windows_of
from utils.evaluation.windows import tile_boxes
from utils.resampling import BICUBIC, BILINEAR

logger = logging.getLogger("robustnet.process")
MODES = ("sliding", "pooling", "whole")
PIXELS, MOST_PIXELS = 2**22, 2**24  # that the network predicts at once: by default, and at most
BYTES_PER_PIXEL = 1500  # of activations and scores, roughly; where it is too low, the batch is halved once


class WindowBatcher:
    """Runs a network on batches of windows of at most `pixels` (or one window).

    The batch is halved for good when the memory runs out. `room` is the memory, in bytes, for the scores
    of one image; None is as much as it takes.
    """

    def __init__(self, net: nn.Module, pixels: int = PIXELS, room: float | None = None) -> None:
        self.net, self.pixels, self.room = net, pixels, room

    def __call__(self, windows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the logits (n, K, h, w) of the next n of `windows`, which are (3, h, w) each and of one size.

        Raises an error that is `out_of_memory` when the memory is too small for one window.
        """
        area, done = windows[0][0].numel(), 0
        while done < len(windows):
            batch = torch.stack(list(windows[done : done + max(1, self.pixels // area)]))
            logits: Tensor | None = None
            try:
                logits = self.net(batch).logits
            except RuntimeError as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                self.pixels = area * (len(batch) // 2)
            if logits is None:  # after the handler, which keeps the tensors of the failed pass alive
                logger.warning("out of memory: %d windows at once from now on", self.pixels // area)
                torch.cuda.empty_cache()
                continue
            done += len(batch)
            yield logits


def out_of_memory(error: Exception) -> bool:
    """Whether the memory ran out. cuDNN, which finds no workspace, and the CPU say so only in words."""
    words = "unable to find an engine", "can't allocate memory", "bad_alloc"
    kinds = torch.OutOfMemoryError, MemoryError
    return isinstance(error, kinds) or any(text in str(error) for text in words)


def free_memory(device: torch.device) -> None:
    """Give memory that PyTorch holds but does not use back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def window_batcher(net: nn.Module, device: torch.device, max_memory_gb: float | None = None) -> WindowBatcher:
    """Return `net` with batches that should fit into the free GPU memory, or into `max_memory_gb` GiB.

    PyTorch never takes more than `max_memory_gb` from the GPU. On a CPU it is the size of the whole process
    (see `memory.at_most`); without it, the memory that is available counts.
    """
    if device.type == "cpu":
        free = max_memory_gb * 2**30 - memory.resident() if max_memory_gb else memory.available()
        pixels = int(free / 2 / BYTES_PER_PIXEL) if max_memory_gb else PIXELS
        return WindowBatcher(net, min(PIXELS, max(1, pixels)), free)
    room: float
    room, total = torch.cuda.mem_get_info(device)
    if max_memory_gb:
        room = min(room, max_memory_gb * 2**30)
        torch.cuda.set_per_process_memory_fraction(min(1, max_memory_gb * 2**30 / total), device)
    return WindowBatcher(net, min(MOST_PIXELS, int(room / BYTES_PER_PIXEL)), room)


def predictions(
    net: nn.Module | WindowBatcher, loader: Iterable[dict], device: torch.device, **protocol: Any
) -> Iterator[tuple[dict, Tensor, Tensor, Tensor]]:
    """Yield (batch, image, label, scores) for a loader's batches, the last three on `device`.

    `protocol` are arguments of `predict`. The host does not wait for the device. A batch whose image cannot
    be read is logged and skipped.
    """
    for batch in loader:
        if "unreadable" in batch:
            logger.warning("skipped: %s", "; ".join(batch["unreadable"]))
            continue
        image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
        try:
            scores = predict(net, image, **protocol)
        except UserError as error:
            raise UserError(f"{', '.join(batch['name'])}: {error}") from error
        yield batch, image, label, scores


def _sliding(batcher: WindowBatcher, images: Tensor, crop: int, overlap: float, flip: bool) -> Tensor:
    """Average the logits of all windows, (N, 3, H, W) -> (N, K, H, W), and of the mirror images' windows.

    Each window is multiplied by its share and added to the mean at once.
    """
    height, width = images.shape[-2:]
    boxes = tile_boxes(height, width, crop, overlap)
    areas = [
        (n, mirrored, slice(y1, y2), slice(x1, x2))  # columns of the mirror image
        for mirrored in (False, True)[: 1 + flip]
        for n in range(len(images))
        for x1, y1, x2, y2 in boxes
    ]
    views = [images, images.flip(-1)] if flip else [images]
    mean, share, place = None, _shares(boxes, height, width, images.device).div_(len(views)), iter(areas)
    for batch in batcher([views[mirrored][n, :, rows, columns] for n, mirrored, rows, columns in areas]):
        if mean is None:
            mean = batch.new_zeros(len(images), batch.shape[1], height, width, dtype=torch.float32)
        for logits in batch.float():
            n, mirrored, rows, columns = next(place)
            weight = share[rows, columns]
            if mirrored:
                logits, weight = logits.flip(-1), weight.flip(-1)
                columns = slice(width - columns.stop, width - columns.start)
            mean[n, :, rows, columns].addcmul_(logits, weight)
    assert mean is not None  # there is a window
    return mean


def _shares(
    boxes: Sequence[tuple[int, int, int, int]], height: int, width: int, device: torch.device
) -> Tensor:
    """Return one divided by the number of windows that cover each pixel, (H, W)."""
    counts = torch.zeros(height, width, device=device)
    for x1, y1, x2, y2 in boxes:
        counts[y1:y2, x1:x2] += 1
    return counts.reciprocal_()


def _resized(logits: Tensor, height: int, width: int) -> Tensor:
    """Return (N, K, height, width), bilinear without antialiasing, from logits (N, K, h, w)."""
    if logits.shape[-2:] == (height, width):
        return logits
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def _scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    if not 0 < scale < math.inf:
        raise UserError(f"scale {scale} is not a size factor; expected a number above 0, such as 0.5")
    return max(1, int(height * scale)), max(1, int(width * scale))


@torch.inference_mode()
def predict(
    net: nn.Module | WindowBatcher,
    image: Tensor,
    *,
    mode: str = "sliding",
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    flip: bool = True,
    crop: int = 1024,
    overlap: float = 1 / 3,
) -> Tensor:
    """Return class scores (B, K, H, W), float32, of images (B, 3, H, W) on the network's device.

    Images are normalized, or grey levels uint8, which are normalized by ImageNet's mean and std here.
    `net` is in eval mode and maps (N, 3, h, w) to an output whose `logits` are (N, K, h, w). Modes:

    - "sliding": at each scale, for the image and (`flip`) its mirror, the logits of windows of
      crop * max(scale, 1) px (see `tile_boxes`) are averaged where they overlap, then over mirror and scales.
    - "pooling": the whole image at each scale and its mirror; logits are resized to the image, then softmax
      probabilities are averaged.
    - "whole": the logits of one pass over the unchanged image; `scales` and `flip` have no effect.

    Images are resized with antialiasing, bilinear for "sliding" and bicubic for "pooling" (see
    utils/evaluation/resizing.py), logits bilinear without it, all with half-pixel centres. Every pixel is
    averaged over its true number of windows (the published evaluator mixes up the axes).
    A scaled image has at least one row and one column. Raises ValueError for an unknown mode, and UserError
    for a scale that is not above 0.
    """
    if mode not in MODES:
        raise ValueError(f"inference mode {mode!r} is unknown; choose one of {', '.join(MODES)}")
    if mode == "whole":
        scales, flip = (1.0,), False
    height, width = image.shape[-2:]
    sizes = [_scaled_size(height, width, scale) for scale in scales]
    if not sizes:
        raise ValueError("no scale is given; expected at least one, such as 1.0")

    batcher = net if isinstance(net, WindowBatcher) else WindowBatcher(net)
    images = Resizable(image)
    total: Tensor | None = None
    for scale, size in zip(scales, sizes, strict=True):
        view = images.resized(*size, BICUBIC if mode == "pooling" else BILINEAR)
        if mode == "sliding":
            scores = _sliding(batcher, view, int(crop * max(scale, 1)), overlap, flip)
        else:
            views = torch.cat([view, view.flip(-1)]) if flip else view
            scores = torch.cat([logits.float() for logits in batcher(list(views))])
        if mode == "pooling":
            scores = _resized(scores, height, width).softmax(1)
            if flip:
                straight, mirrored = scores.chunk(2)
                scores = straight.add_(mirrored.flip(-1)).div_(2)
        scores = _resized(scores, height, width)
        total = scores if total is None else total.add_(scores)
    assert total is not None  # there is a scale
    return total.div_(len(sizes)) if len(sizes) > 1 else total


@torch.inference_mode()
def classify(
    net: nn.Module | WindowBatcher, image: Tensor, classes: int, *, confident: bool = False, **protocol: Any
) -> tuple[Tensor, Tensor | None]:
    """Return the classes, uint8 (B, H, W), that `predict` scores highest of `classes`, and their confidence.

    That is, if `confident`, the probability float32 (B, H, W): the softmax of the averaged logits, in mode
    "pooling" the averaged probabilities; None otherwise.

    Where the scores of the whole image do not fit into the batcher's room, sliding inference keeps only those
    of the rows in work; the result is the same within rounding.
    """
    batcher = net if isinstance(net, WindowBatcher) else WindowBatcher(net)
    needed = image.shape[0] * image.shape[-2] * image.shape[-1] * _bytes_per_pixel(classes, **protocol)
    mode = protocol.pop("mode", "sliding")
    if mode != "sliding" or batcher.room is None or needed < batcher.room:
        scores = predict(batcher, image, mode=mode, **protocol)
        confidence = confidence_of(scores, 1, mode == "pooling") if confident else None
        return scores.argmax(1).byte(), confidence
    parts = [_classify_large(batcher, one, confident, **protocol) for one in image]
    preds, confidences = zip(*parts, strict=True)
    return torch.stack(preds), torch.stack(confidences) if confident else None


def _bytes_per_pixel(
    classes: int, scales: Sequence[float] = (0.5, 1.0, 2.0), flip: bool = True, **others: Any
) -> float:
    """Return the memory that `predict` takes for a pixel of the image, without the network: scores and views.

    Twice the sizes of the tensors, because resizing and mirroring hold copies of some.
    """
    views = 2 if flip else 1
    return 2 * (max(scales) ** 2 * views * (4 * classes + 12) + 8 * classes)


def _classify_large(
    batcher: WindowBatcher,
    image: Tensor,
    confident: bool,
    *,
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    flip: bool = True,
    crop: int = 1024,
    overlap: float = 1 / 3,
) -> tuple[Tensor, Tensor | None]:
    """Return the classes and confidence (H, W) of an image (3, H, W) in mode "sliding"; see `classify`."""
    height, width = image.shape[-2:]
    sizes = [_scaled_size(height, width, scale) for scale in scales]
    crops = [int(crop * max(scale, 1)) for scale in scales]
    source = Resizable(image)
    return classify_in_strips(source, windows_of(source, sizes, crops, flip, overlap), batcher, confident)
