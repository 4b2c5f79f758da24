"""Crop, zoom, rotation and flip of an image as one 2x3 matrix: compose, invert, warp (arXiv 2105.00097).

A matrix maps coordinates (x, y) of a reference image to those of a view of it. Both follow the convention of
`torch.nn.functional.affine_grid` with align_corners=False: -1 and 1 are the outer edges of the first and the
last pixel. `warp(reference, inverse)` makes the view, `warp(view, matrix)` maps it back onto the reference.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_matrix(parameters: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the matrices (B, 2, 3) of views (B, 5) of a reference of `size` (height, width), in px.

    The parameters of a view are dy and dx, the displacement of its centre in px of the (mirrored) reference;
    alpha, its rotation in degrees; scale, its magnification; flip, -1 if mirrored left to right, else 1.
    ValueError for an odd height or width, whose middle is not a whole number of px.
    """
    # NOTE(published): the flip multiplies only cos(alpha), so a rotated mirror image is sheared as well. At
    # 45 degrees the matrix is singular and `invert` fails; see test_a_mirrored_view_turned_by_45_degrees.
    height, width = size
    if height % 2 or width % 2:
        raise ValueError(f"views have even height and width, not {height} x {width} px")
    dy, dx, alpha, scale, flip = parameters.unbind(-1)
    cos, sin = alpha.deg2rad().cos(), alpha.deg2rad().sin()
    aspect = height / width
    x = flip * cos, aspect * sin, -(cos * dx + sin * dy) / (width // 2)
    y = -sin / aspect, cos, -(-sin * dx + cos * dy) / (height // 2)
    return scale[..., None, None] * torch.stack([torch.stack(x, -1), torch.stack(y, -1)], -2)


def invert(matrix: Tensor) -> Tensor:
    """Return the exact inverses (B, 2, 3) of matrices (B, 2, 3); ValueError if one is singular."""
    linear, shift = matrix[..., :2].double(), matrix[..., 2:].double()
    if (linear.det().abs() < 1e-6).any():
        raise ValueError(f"a singular matrix has no inverse: {matrix.tolist()}")
    inverse = linear.inverse()
    return torch.cat([inverse, -inverse @ shift], -1).to(matrix.dtype)


def warp(images: Tensor, matrix: Tensor, mode: str = "bilinear") -> tuple[Tensor, Tensor]:
    """Sample images (B, C, H, W) at the coordinates that matrices (B, 2, 3) give, beyond the edge its pixels.

    Also returns which coordinates are inside, bool (B, H, W). `mode` is "bilinear" or "nearest".
    """
    grid = F.affine_grid(matrix.to(images.dtype), list(images.shape), align_corners=False)
    inside = (grid.abs() <= 1).all(-1)
    return F.grid_sample(images, grid, mode, padding_mode="border", align_corners=False), inside


def draw_view(
    size: tuple[int, int], rng: np.random.Generator, *, zoom: bool, shares: tuple[float, float] = (0.5, 1.0)
) -> Tensor:
    """Draw the parameters (5,) of a view: mirrored with probability 0.5; with `zoom` also a crop.

    The crop has a share uniform in `shares` of the height and width of a reference of `size` (height, width),
    and a uniform position in it.
    """
    flip = -1.0 if rng.random() < 0.5 else 1.0
    share = rng.uniform(*shares) if zoom else 1.0
    dy, dx = ((1 - share) * side * (rng.random() - 0.5) for side in size)
    return torch.tensor([dy, dx, 0.0, 1 / share, flip], dtype=torch.float64)
