"""A rendered frosted pane: feathers of ice crystals on a cloudy ground."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 1280, 2560  # px, height and width of the rendered pane
FEATHERS = 260
TINT = np.array((0.94, 0.98, 1.0), np.float32)  # ice is slightly blue


@lru_cache(maxsize=1)
def texture(height: int, width: int) -> np.ndarray:
    """Return the pane, float32 (3, h, w) in [0, 1]. It is enlarged where `height` or `width` needs it."""
    factor = max(1.0, height / SIZE[0], width / SIZE[1])
    pane = rendered()
    if factor > 1:
        size = int(np.ceil(factor * SIZE[1])), int(np.ceil(factor * SIZE[0]))
        pane = np.asarray(Image.fromarray(pane).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    return TINT[:, None, None] * pane


@lru_cache(maxsize=1)
def rendered() -> np.ndarray:
    """Return the brightness of the pane, float32 SIZE; it is always the same."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    ice = Image.new("L", (width, height))
    draw = ImageDraw.Draw(ice)
    for _ in range(FEATHERS):
        start, angle, length = (
            rng.uniform((0, 0), (width, height)),
            rng.uniform(0, 2 * np.pi),
            rng.uniform(60, 340),
        )
        feather(draw, start, angle, length, rng)
    sharp, soft = (
        np.asarray(image, np.float32) / 255 for image in (ice, ice.filter(ImageFilter.GaussianBlur(5)))
    )
    clouds = sum(share * smooth(rng, cell) for share, cell in ((0.5, 260), (0.3, 70), (0.2, 18)))
    grain = smooth(rng, 2)
    pane = 0.12 + 0.45 * clouds + 0.35 * soft + 0.30 * sharp * clouds + 0.10 * grain
    return pane.astype(np.float32).clip(0, 1)


def feather(
    draw: ImageDraw.ImageDraw, start: np.ndarray, angle: float, length: float, rng: np.random.Generator
) -> None:
    """Draw a bent stem with side branches at 60 degrees, shorter towards the tip."""
    point, bend, step = start, rng.uniform(-0.012, 0.012), 7.0
    for walked in np.arange(0, length, step):
        following = point + step * np.array((np.cos(angle), np.sin(angle)))
        draw.line([*point, *following], fill=int(rng.uniform(150, 256)), width=2)
        for side in (-1, 1):
            reach = 0.3 * (length - walked) * rng.uniform(0.5, 1)
            turn = angle + side * np.pi / 3
            tip = following + reach * np.array((np.cos(turn), np.sin(turn)))
            draw.line([*following, *tip], fill=int(rng.uniform(60, 200)), width=1)
        point, angle = following, angle + bend


def smooth(rng: np.random.Generator, cell: float) -> np.ndarray:
    """Return smooth noise in [0, 1], float32 SIZE, with features of `cell` px."""
    height, width = SIZE
    small = rng.random((max(2, round(height / cell)), max(2, round(width / cell))), np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
