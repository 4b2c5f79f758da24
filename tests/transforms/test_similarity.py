"""Matrices of views; golden/sac.json holds numbers of the published code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transforms.similarity import draw_view, invert, similarity_matrix, warp

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/sac.json").read_text())["affine"]
SIZE = 48, 96


def parameters(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_published_matrices_and_inverses():
    drawn = parameters(*GOLDEN["params_dy_dx_alpha_scale_flip"])
    matrix = similarity_matrix(drawn, tuple(GOLDEN["crop_size"]))
    torch.testing.assert_close(matrix, torch.tensor(GOLDEN["affine"]).double(), rtol=1e-6, atol=1e-9)
    inverse = torch.tensor(GOLDEN["affine_inv"]).double()
    torch.testing.assert_close(invert(matrix), inverse, rtol=1e-6, atol=1e-9)


def test_a_rotation_by_hand():
    """A reference of 2 x 4 px turned by 90 degrees, centre 1 px down: x' = y / 2 - 1 / 2, y' = -2 x."""
    matrix = similarity_matrix(parameters([1, 0, 90, 1, 1]), (2, 4))
    torch.testing.assert_close(matrix[0], parameters([0, 0.5, -0.5], [-2, 0, 0]))


def random_parameters(seed, count=200):
    rng = np.random.default_rng(seed)
    low, high = [-40, -40, -40, 0.5, 0], [40, 40, 40, 2, 0]  # px, px, degrees, magnification
    rows = torch.from_numpy(rng.uniform(low, high, (count, 5)))
    rows[:, 4] = torch.from_numpy(rng.choice([-1.0, 1.0], count))
    return rows


def compose(outer, inner):
    """The matrix of going through `inner`, then `outer`."""
    last = torch.tensor([0.0, 0, 1]).double().expand(len(inner), 1, 3)
    return outer @ torch.cat([inner, last], 1)


@pytest.mark.parametrize("size", [SIZE, (64, 64), (512, 1024)])
def test_a_matrix_and_its_inverse_are_nothing(size):
    matrix = similarity_matrix(random_parameters(0), size)
    identity = torch.eye(2, 3).double().expand_as(matrix)
    for product in (compose(matrix, invert(matrix)), compose(invert(matrix), matrix)):
        torch.testing.assert_close(product, identity, rtol=0, atol=1e-9)


def test_a_mirrored_view_turned_by_45_degrees():
    """Its matrix is [[-c, a c], [-c / a, c]] of determinant -c^2 + c^2 = 0, as published."""
    with pytest.raises(ValueError, match="singular"):
        invert(similarity_matrix(parameters([0, 0, 45, 1, -1]), SIZE))
    assert invert(similarity_matrix(parameters([0, 0, 45, 1, 1]), SIZE)).isfinite().all()


@pytest.mark.parametrize("size", [(47, 96), (48, 95)])
def test_odd_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}"):
        similarity_matrix(parameters([0, 0, 0, 1, 1]), size)


def gradient(count):
    """A picture (count, 2, H, W) of its coordinates x and y, which bilinear warps keep exact."""
    height, width = SIZE
    x = (torch.arange(width).double() * 2 + 1) / width - 1
    y = (torch.arange(height).double() * 2 + 1) / height - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(count, -1, -1, -1)


def between_pixels(matrix):
    """Where a bilinear warp samples between centres of pixels, so that it repeats none: bool (B, H, W)."""
    grid = F.affine_grid(matrix, [len(matrix), 1, *SIZE], align_corners=False)
    return (grid.abs() <= 1 - torch.tensor([1 / SIZE[1], 1 / SIZE[0]])).all(-1)


def test_warp_and_back_returns_a_gradient():
    image = gradient(40)
    matrix = similarity_matrix(random_parameters(1, 40), SIZE)
    view, _ = warp(image, invert(matrix))
    back, inside = warp(view, matrix)
    exact, _ = warp(between_pixels(invert(matrix))[:, None].double(), matrix)
    exact = (exact[:, 0] > 1 - 1e-9) & between_pixels(matrix)
    assert exact.float().mean() > 0.2 and (inside | ~exact).all()
    torch.testing.assert_close(back.movedim(1, -1)[exact], image.movedim(1, -1)[exact], rtol=0, atol=1e-9)


def test_a_view_shows_what_its_parameters_say():
    """A mirrored zoom: its middle is the px (dy, dx) from the mirrored middle, its width 1 / scale of it."""
    height, width = SIZE
    matrix = similarity_matrix(parameters([6, -12, 0, 2, -1]), SIZE)
    view, inside = warp(gradient(1), invert(matrix))
    assert inside.all()
    middle = view[0, :, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1].mean((1, 2))
    torch.testing.assert_close(middle, parameters([12 / (width / 2), 6 / (height / 2)])[0])
    step = view[0, 0, 0, 1] - view[0, 0, 0, 0]
    torch.testing.assert_close(step, torch.tensor(-2 / width / 2).double())


def test_image_and_label_stay_together():
    """A picture whose values are its labels is the same through either mode where neighbours are alike."""
    label = torch.randint(0, 19, (1, 1, 6, 12)).repeat_interleave(8, 2).repeat_interleave(8, 3).double()
    label = label.expand(20, -1, -1, -1)
    inverse = invert(similarity_matrix(random_parameters(2, 20), SIZE))
    image, inside = warp(label, inverse)
    nearest, same = warp(label, inverse, "nearest")
    assert torch.equal(inside, same)
    assert set(nearest.unique().tolist()) <= set(label.unique().tolist())
    alike = image == image.round()
    assert (alike & (image == nearest))[inside[:, None]].float().mean() > 0.6
    assert ((image - nearest).abs()[inside[:, None]] > 0.001).float().mean() < 0.4


def test_drawn_views():
    """Crops reach both ends of their share of a side, [0.5, 1]: all of 299 miss a tenth once in 10^13."""
    drawn = torch.stack([draw_view(SIZE, np.random.default_rng(i), zoom=i > 0) for i in range(300)])
    dy, dx, alpha, scale, flip = drawn.unbind(1)
    assert drawn[0, :4].tolist() == [0, 0, 0, 1]
    share = 1 / scale[1:]
    assert (alpha == 0).all() and 0.5 <= share.min() < 0.55 and 0.95 < share.max() <= 1
    assert 0.4 < (flip == 1).float().mean() < 0.6
    _, inside = warp(gradient(300), invert(similarity_matrix(drawn, SIZE)))
    assert inside.all()
    room = (1 - 1 / scale) / 2
    assert (dy.abs() <= SIZE[0] * room).all() and (dx.abs() <= SIZE[1] * room).all()
    assert (dx.abs() > 0.9 * SIZE[1] * room)[1:].any()
