import pytest
import torch

from network.normalization import make_norm
from network.switchable_whitening import IterNorm, SwitchableWhitening, group_size, inverse_square_root
from tests.helpers import run_processes


@pytest.mark.parametrize(("channels", "size"), [(64, 16), (24, 12), (116, 4), (40, 10), (17, 1)])
def test_group_size_is_the_largest_divisor_up_to_16(channels, size):
    assert group_size(channels) == size


def test_newton_by_hand():
    # diag(1, 1): trace 2, normalized 1/2; five steps of p <- 1.5 p - 0.25 p^3 from 1, divided by sqrt 2
    p = 1.0
    for _ in range(5):
        p = 1.5 * p - 0.5 * p**3 / 2
    expected = torch.eye(2, dtype=torch.float64) * p / 2**0.5
    torch.testing.assert_close(inverse_square_root(torch.eye(2, dtype=torch.float64)), expected)


def test_newton_converges_to_the_inverse_square_root():
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    root = inverse_square_root(matrix)
    torch.testing.assert_close(root @ matrix @ root, torch.eye(2, dtype=torch.float64), atol=2e-3, rtol=0)


def correlated_maps(batch=3, channels=4, seed=0):
    maps = torch.randn(
        batch, channels, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    maps[:, 1] += 0.5 * maps[:, 0]
    return 1 + 2 * maps


def test_iternorm_whitens_the_batch():
    layer = IterNorm(4).double()
    x = layer(correlated_maps()).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(x.mean(1), torch.zeros(4, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(x @ x.mT / x.shape[1], torch.eye(4, dtype=torch.float64), atol=0.05, rtol=0)


def test_switchable_extremes_are_batch_and_instance():
    """With all weight on one side the layer is IterNorm, or the instances' own whitening."""
    x = correlated_maps()
    layer = SwitchableWhitening(4).double()
    with torch.no_grad():
        for weights in (layer.sw_mean_weight, layer.sw_var_weight):
            weights.copy_(torch.tensor([50.0, -50.0]))
        torch.testing.assert_close(layer(x), IterNorm(4).double()(x))
        for weights in (layer.sw_mean_weight, layer.sw_var_weight):
            weights.copy_(torch.tensor([-50.0, 50.0]))
        expected = torch.cat([IterNorm(4).double()(image[None]) for image in x])
        torch.testing.assert_close(layer(x), expected)


def test_equal_shares_by_hand():
    """One channel, images 0 2 and 4 6: mean 3 and variance 5 of the batch, 1 and 1, 5 and 1 of the images.

    Halves of both: means 2 and 4, variance 3. Newton's iteration is exact for one channel. Running
    statistics become 0.03 and 0.99 + 0.05; with them the first image's are 0.515 and 1.02 in eval mode.
    """
    layer = SwitchableWhitening(1).double()
    x = torch.tensor([[0.0, 2], [4, 6]], dtype=torch.float64).view(2, 1, 1, 2)
    means = torch.tensor([2.0, 4], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(layer(x), (x - means) / (3 + 1e-5) ** 0.5)
    torch.testing.assert_close(layer.eval()(x[:1]), (x[:1] - 0.515) / (1.02 + 1e-5) ** 0.5)


def test_running_statistics_take_a_hundredth_of_the_batch_and_serve_in_eval():
    layer, x = IterNorm(2).double(), correlated_maps(channels=2)
    layer(x)
    joint = x.permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(layer.running_mean[0, :, 0], 0.01 * joint.mean(1))
    expected = 0.99 * torch.eye(2, dtype=torch.float64) + 0.01 * joint.cov(correction=0)
    torch.testing.assert_close(layer.running_cov[0], expected)
    layer.eval()
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


@pytest.mark.parametrize("kind", [IterNorm, SwitchableWhitening])
def test_gradients(kind):
    layer = kind(4).double()
    x = correlated_maps(batch=2)[:, :, :2, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


@pytest.mark.parametrize("code", [5, 6])
def test_half_precision_is_computed_in_float32(code):
    layer = make_norm(code, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 16, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32


def one_step(rank, world_size):
    """Output and gradients of this process's share of the joint batch; parameter gradients summed."""
    layer = SwitchableWhitening(32).double()
    x = correlated_maps(6, 32).chunk(world_size)[rank].clone().requires_grad_()
    layer(x).pow(3).sum().backward()
    gradients = [p.grad for p in layer.parameters()]
    if world_size > 1:
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
    return x.grad, gradients, layer.state_dict()


def test_two_processes_equal_one_on_the_joint_batch():
    expected_x, expected_gradients, expected_state = one_step(0, 1)
    results = run_processes(one_step, 2)
    torch.testing.assert_close(torch.cat([result[0] for result in results]), expected_x)
    for _, gradients, state in results:
        torch.testing.assert_close(gradients, expected_gradients)
        torch.testing.assert_close(state, expected_state)
