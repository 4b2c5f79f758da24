"""Where the windows of sliding evaluation lie."""

import math


def tile_boxes(height: int, width: int, crop: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """List the windows (x1, y1, x2, y2), in px, end exclusive, that cover an image, column by column.

    All windows have one size: `crop` square, or the image's side where that is smaller. Neighbours are
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
