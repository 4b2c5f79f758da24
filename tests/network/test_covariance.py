"""Expected numbers are derived by hand in the comments."""

import pytest
import torch

from network.covariance import covariance


def test_covariance_by_hand():
    # X = [[1, -1, 1, -1], [1, 1, -1, -1]]: X X^T = [[4, 0], [0, 4]], over HW - 1 = 3, diagonal plus 1e-5
    maps = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1]], dtype=torch.float64).view(1, 2, 2, 2)
    expected = torch.tensor([[[4 / 3 + 1e-5, 0], [0, 4 / 3 + 1e-5]]], dtype=torch.float64)
    torch.testing.assert_close(covariance(maps), expected)


@pytest.mark.parametrize("pixels", [(1, 2), (7, 11), (64, 64), (96, 128), (67, 191)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_covariance_of_many_pixels_is_a_sum_over_chunks(pixels, layout):
    """12,797 px are 3 chunks of 4,265 and 2 px more; the gradient is that of one product."""
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *pixels, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    x, weight = maps.flatten(2), torch.randn(2, 3, 3, dtype=torch.float64)
    expected = x @ x.mT / (x.shape[2] - 1) + 1e-5 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(covariance(maps), expected)
    gradients = [torch.autograd.grad((s * weight).sum(), maps)[0] for s in (covariance(maps), expected)]
    torch.testing.assert_close(*gradients)


def test_one_pixel_has_no_covariance():
    with pytest.raises(ValueError, match="1 x 1"):
        covariance(torch.ones(1, 2, 1, 1))


def test_covariance_is_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert covariance(torch.randn(1, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(("half", "error"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_covariance_of_half_precision(half, error):
    """The products are those of float32; the gradient is rounded to the type of the maps."""
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 80, 80).to(half)
    both = [maps.requires_grad_(), maps.detach().float().requires_grad_()]
    covariances = [covariance(m) for m in both]
    torch.testing.assert_close(*covariances)
    gradients = [torch.autograd.grad(c.square().sum(), m)[0] for c, m in zip(covariances, both, strict=True)]
    assert gradients[0].dtype == half
    assert (gradients[0] - gradients[1]).norm() < error * gradients[1].norm()
