"""Sliding inference on an image that is too large for the scores of all its pixels to be held at once.

Everything between the windows' logits and the averaged scores is linear: the mean over windows, mirror and
scales, and the resizing. So the logits of each window are resized and added to the scores of the image at
once. Windows come from top to bottom, and rows that no later window reaches become classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from utils.evaluation.calibration import confidence_of
from utils.evaluation.resizing import Resizable, Span, Taps, used
from utils.evaluation.windows import tile_boxes
from utils.resampling import BILINEAR

ROWS = 64  # of a block of scores, which is released as a whole
Batches = Callable[[Sequence[Tensor]], Iterator[Tensor]]


def scores_of_window(side: int, scaled: int, first: int, last: int, counts: Tensor) -> Span:
    """Return which px [low, high) of a side the scores of the scaled px [first, last) reach, and the taps.

    The resizing is bilinear without antialiasing. `counts` (scaled,) are the windows over each px.
    """
    source = ((torch.arange(side, dtype=torch.float64) + 0.5) * (scaled / side) - 0.5).clamp(min=0)
    left = source.long().clamp(max=scaled - 1)
    right = (left + 1).clamp(max=scaled - 1)
    share = source - left
    index, weight = torch.stack([left, right]), torch.stack([1 - share, share])
    inside = (index >= first) & (index < last) & (weight > 0)
    reached = inside.any(0).nonzero().flatten()
    if not len(reached):
        return Span(0, 0, Taps(index[:, :0], weight[:, :0].float()))
    low, high = int(reached[0]), int(reached[-1]) + 1
    index, weight = index[:, low:high], (weight * inside / counts[index])[:, low:high]
    return Span(low, high, used((index - first).clamp(0, last - first - 1), weight.float()))


class Window(NamedTuple):
    """A window of a scaled image, and where its scores go."""

    scale: int  # position of the scale
    mirrored: bool
    rows: Span  # of the image, from which the window is resized
    columns: Span
    to_rows: Span  # of the image, which its scores reach
    to_columns: Span


class _Pixels(Sequence[Tensor]):
    """The pixels (3, h, w) of windows, made when they are asked for."""

    def __init__(self, image: Resizable, windows: Sequence[Window]) -> None:
        self.image, self.windows = image, windows

    def __len__(self) -> int:
        return len(self.windows)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self._make(window) for window in self.windows[index]]
        return self._make(self.windows[index])

    def _make(self, window: Window) -> Tensor:
        pixels = self.image.part(window.rows, window.columns)
        return pixels.flip(-1) if window.mirrored else pixels


def windows_of(
    image: Resizable, sizes: Sequence[tuple[int, int]], crops: Sequence[int], flip: bool, overlap: float
) -> list[Window]:
    """List the windows of an image (3, H, W) from top to bottom.

    They have `crops` px in the image at `sizes` (height, width).
    """
    height, width = image.image.shape[-2:]
    device, found = image.image.device, []
    for scale, ((h, w), crop) in enumerate(zip(sizes, crops, strict=True)):
        boxes = tile_boxes(h, w, crop, overlap)
        rows, columns = ({(box[i], box[i + 2]) for box in boxes} for i in (1, 0))
        down, across = _coverage(h, rows), _coverage(w, columns)
        share = len(sizes) * (1 + flip)
        vertical = {
            span: (
                image.span(height, h, *span, BILINEAR),
                scores_of_window(height, h, *span, down * share).to(device),
            )
            for span in rows
        }
        for mirrored in (False, True)[: 1 + flip]:
            spans = {(w - x2, w - x1) for x1, x2 in columns} if mirrored else columns
            over = across.flip(0) if mirrored else across
            for left, right in sorted(spans):
                source = image.span(width, w, left, right, BILINEAR)
                target = scores_of_window(width, w, left, right, over).to(device)
                for _, (from_rows, to_rows) in sorted(vertical.items(), key=lambda item: item[0]):
                    found.append(Window(scale, mirrored, from_rows, source, to_rows, target))
    return sorted(found, key=lambda window: (window.to_rows[0], window.scale))


def _coverage(side: int, spans: set[tuple[int, int]]) -> Tensor:
    """Return how many of `spans` (first, last) cover each px of a side."""
    counts = torch.zeros(side, dtype=torch.float64)
    for first, last in spans:
        counts[first:last] += 1
    return counts


def classify_in_strips(
    image: Resizable, windows: Sequence[Window], batches: Batches, confident: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return the classes, uint8 (H, W), of an image (3, H, W) from its windows.

    With `confident` their softmax probabilities, float32 (H, W), too.
    `batches` turns windows (3, h, w) of one size into batches of logits (n, K, h, w).
    """
    height, width = image.image.shape[-2:]
    pred = torch.zeros(height, width, dtype=torch.uint8, device=image.image.device)
    confidence = torch.zeros(height, width, device=image.image.device) if confident else None
    blocks: dict[int, Tensor] = {}
    done = 0
    while done < len(windows):
        first = windows[done]
        alike = done
        while alike < len(windows) and _goes_with(windows[alike], first):
            alike += 1
        group = windows[done:alike]
        position = iter(group)
        for batch in batches(_Pixels(image, group)):
            for logits in batch:
                window = next(position)
                _add(
                    blocks,
                    logits.float().flip(-1) if window.mirrored else logits.float(),
                    window,
                    (height, width),
                )
            del batch, logits
        done = alike
        reached = windows[done].to_rows[0] if done < len(windows) else height + ROWS
        for block in [block for block in blocks if (block + 1) * ROWS <= reached]:
            scores = blocks.pop(block)
            rows = slice(block * ROWS, (block + 1) * ROWS)
            pred[rows] = scores.argmax(0)
            if confidence is not None:
                confidence[rows] = confidence_of(scores, 0)
    return pred, confidence


def _goes_with(window: Window, first: Window) -> bool:
    return (window.scale, window.to_rows[0]) == (first.scale, first.to_rows[0])


def _add(blocks: dict[int, Tensor], logits: Tensor, window: Window, size: tuple[int, int]) -> None:
    """Resize the logits (K, h, w) of a window and add them to the blocks of scores (K, rows, W)."""
    (top, bottom, down), (left, right, across) = window.to_rows, window.to_columns
    scores = across.apply(down.apply(logits, -2), -1)
    for block in range(top // ROWS, (bottom + ROWS - 1) // ROWS):
        start = block * ROWS
        if block not in blocks:
            blocks[block] = scores.new_zeros(len(scores), min(ROWS, size[0] - start), size[1])
        low, high = max(top, start), min(bottom, start + ROWS)
        blocks[block][:, low - start : high - start, left:right] += scores[:, low - top : high - top]
