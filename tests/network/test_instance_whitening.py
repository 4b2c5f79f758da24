"""Expected numbers are derived by hand in the comments."""

import pytest
import torch

from network import ARCHS
from network.covariance import covariance
from network.instance_whitening import InstanceWhitening, Whitening, WhiteningMask
from tests.helpers import run_processes


def test_layer_standardizes_each_channel_and_gives_its_map_once():
    layer = InstanceWhitening(2)
    x = torch.tensor([[[[1.0, 3.0]], [[-2.0, 2.0]]]])  # means 2, 0; variances 1, 4
    expected = torch.tensor([[[[-1.0, 1.0]], [[-1.0, 1.0]]]])
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(layer.take(), expected, atol=1e-4, rtol=0)
    assert layer.take() is None


def two_channel_maps(correlation):
    """Return maps (1, 2, 1, 2) whose off-diagonal covariance X X^T / (2 - 1) is 2 * correlation."""
    return torch.tensor([[[[1.0, 1.0]], [[correlation, correlation]]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("relax_denom", "expected"),
    # C = 2: n = 1 pair, |S_01| = 2 * 0.75 = 1.5; margin = 1 // 1 = 1 leaves 0.5, margin 1 // 2 = 0 leaves 1.5
    [(0, 1.5), (1.0, 0.5), (2.0, 1.5)],
)
def test_irw_loss_by_hand(relax_denom, expected):
    mask = WhiteningMask(2, selective=False, relax_denom=relax_denom)
    assert mask.loss(two_channel_maps(0.75)).item() == pytest.approx(expected)


def test_irw_loss_is_zero_inside_the_margin():
    assert WhiteningMask(2, selective=False, relax_denom=1.0).loss(two_channel_maps(0.25)).item() == 0


def test_the_margin_is_taken_of_each_image():
    # margin 1 leaves 0.5 of |S_01| = 1.5 and nothing of 0.5: 0.25, where the mean of both would cost nothing
    mask = WhiteningMask(2, selective=False, relax_denom=1.0)
    maps = torch.cat([two_channel_maps(0.75), two_channel_maps(0.25)])
    assert mask.loss(maps).item() == pytest.approx(0.25)


@pytest.mark.parametrize(("relax_denom", "margin"), [(0, 0), (2.0, 1), (64.0, 0), (1.0, 3)])
def test_the_margin_is_a_whole_number_of_pairs(relax_denom, margin):
    mask = WhiteningMask(3, selective=False, relax_denom=relax_denom)
    assert mask.margin.item() == margin  # 3 // relax_denom


def test_the_loss_is_the_mean_over_positions():
    # 1.5 as above, and 0 of the position whose covariances are not chosen yet
    whitening = Whitening([2, 2], [False, True], clusters=2, relax_denom=0).double()
    assert whitening.loss((two_channel_maps(0.75),) * 2).item() == pytest.approx(1.5 / 2)


def selective_whitening(channels=3, clusters=2):
    return Whitening([channels], [True], clusters=clusters, relax_denom=0).double()


def observe_variances(whitening, pairs):
    """Let the whitening see one image pair whose covariance (i, j) differs by `pairs[i, j]`.

    Channel 0 is constant 1 over HW = 2 in both; channel k is d_k in the view and 0 in the original, so
    S_0k = 2 d_k against 0 and the unbiased variance of the two is (2 d_k)^2 / 2 = 2 d_k^2.
    """
    view = torch.zeros(1, 3, 1, 2, dtype=torch.float64)
    original = view.clone()
    view[:, 0] = original[:, 0] = 1
    for channel, difference in pairs.items():
        view[:, channel] = difference
    whitening.observe((torch.cat([view, original]),))


def test_isw_mask_by_hand():
    # Variances: S_01 2 * 3^2 = 18, S_02 2 * 0.1^2 = 0.02, S_12 (2 * 3 * 0.1)^2 / 2 = 0.18; with the six zeros
    # of diagonal and lower triangle, two clusters are {18} and the rest.
    whitening = selective_whitening()
    observe_variances(whitening, {1: 3.0, 2: 0.1})
    whitening.finish_trial()
    mask = whitening.masks[0]
    assert mask.variance[0, 1].item() == pytest.approx(18)
    assert mask.variance[0, 2].item() == pytest.approx(0.02)
    assert mask.variance[1, 2].item() == pytest.approx(0.18)
    assert mask.mask.nonzero().tolist() == [[0, 1]]
    assert mask.num_selected.item() == 1


def test_zeros_of_diagonal_and_lower_triangle_are_clustered_too():
    # d^2 = 1.5: variances 3, 3 and 2 * 1.5^2 = 4.5. With six zeros the split {0 | 3, 3, 4.5} costs 1.5 and
    # {0, 3, 3 | 4.5} 18 - 8 * 0.75^2 = 13.5; without them {3, 3 | 4.5} would cost nothing.
    whitening = selective_whitening()
    observe_variances(whitening, {1: 1.5**0.5, 2: 1.5**0.5})
    whitening.finish_trial()
    assert whitening.masks[0].mask.nonzero().tolist() == [[0, 1], [0, 2], [1, 2]]


def test_everything_above_the_lowest_of_three_clusters_is_sensitive():
    # variances 2 * 3^2 = 18, 2 * 0.5^2 = 0.5 and 2 * (3 * 0.5)^2 = 4.5: {18}, {4.5} and the zeros with 0.5
    whitening = selective_whitening(clusters=3)
    observe_variances(whitening, {1: 3.0, 2: 0.5})
    whitening.finish_trial()
    assert whitening.masks[0].mask.nonzero().tolist() == [[0, 1], [1, 2]]


def test_the_mask_is_the_intersection_of_trials():
    whitening = selective_whitening()
    observe_variances(whitening, {1: 1.5**0.5, 2: 1.5**0.5})  # all three, as above
    whitening.finish_trial()
    observe_variances(whitening, {1: 3.0, 2: 0.1})  # (0, 1)
    whitening.finish_trial()
    assert whitening.masks[0].mask.nonzero().tolist() == [[0, 1]]
    assert whitening.masks[0].num_selected.item() == 1


def test_trials_are_intersected_and_an_empty_intersection_costs_nothing(caplog):
    whitening = selective_whitening()
    observe_variances(whitening, {1: 3.0, 2: 0.1})
    whitening.finish_trial()
    observe_variances(whitening, {1: 0.1, 2: 3.0})  # now (0, 2)
    with caplog.at_level("WARNING", "robustnet"):
        whitening.finish_trial()
    assert whitening.masks[0].num_selected.item() == 0
    assert "no covariance is sensitive" in caplog.text
    loss = whitening.loss((torch.randn(2, 3, 4, 4, dtype=torch.float64),))
    assert loss.item() == 0 and torch.isfinite(loss)


def test_variances_are_averaged_over_images():
    whitening = selective_whitening()
    observe_variances(whitening, {1: 3.0})  # 18
    observe_variances(whitening, {1: 1.0})  # 2
    whitening.finish_trial()
    assert whitening.masks[0].variance[0, 1].item() == pytest.approx(10)


def test_isw_loss_is_off_before_the_statistics_and_after_reset():
    whitening = selective_whitening()
    maps = (torch.randn(2, 3, 4, 4, dtype=torch.float64),)
    assert whitening.loss(maps).item() == 0
    observe_variances(whitening, {1: 3.0})
    whitening.finish_trial()
    # only S_01 counts, n = 1
    assert whitening.loss(maps).item() == pytest.approx(covariance(maps[0])[:, 0, 1].abs().mean().item())
    whitening.reset()
    assert whitening.loss(maps).item() == 0


def test_state_dict_restores_masks_and_trials():
    whitening = selective_whitening()
    observe_variances(whitening, {1: 3.0})
    whitening.finish_trial()
    other = selective_whitening()
    other.load_state_dict(whitening.state_dict())
    assert other.trials == 1
    maps = (torch.randn(2, 3, 4, 4, dtype=torch.float64),)
    assert other.loss(maps).item() == whitening.loss(maps).item() > 0


def test_mixed_codes_make_one_mask_per_whitened_map():
    net = ARCHS["DeepR18V3PlusD"](wt_layer=(0, 0, 1, 2, 4, 3, 0))
    whitening = Whitening.for_network(net, clusters=3, relax_denom=64.0)
    assert [mask.selective for mask in whitening.masks] == [False, True]
    assert [len(mask.mask) for mask in whitening.masks] == [64, 64]
    assert whitening.masks[0].margin.item() == 64 * 63 // 2 // 64 == 31
    assert len(net(torch.randn(2, 3, 64, 64)).whitened) == 2


@pytest.mark.parametrize("clusters", [1, 257])
def test_numbers_of_clusters_that_make_no_sense_are_refused(clusters):
    with pytest.raises(ValueError, match=f"2 to 256 --clusters.* {clusters}"):
        selective_whitening(clusters=clusters)


def sharded_masks(rank, world_size):
    """The mask from six image pairs shared out over processes."""
    whitening = Whitening([8], [True], clusters=3, relax_denom=0)
    generator = torch.Generator().manual_seed(5)
    for i in range(6):
        maps = torch.randn(2, 8, 3, 3, generator=generator)
        if i % world_size == rank:
            whitening.observe((maps,))
    whitening.finish_trial()
    return whitening.state_dict()


@pytest.mark.parametrize("world_size", [2, 3])
def test_statistics_shared_out_over_processes_give_the_same_mask(world_size):
    (single,) = run_processes(sharded_masks, 1)
    assert single["masks.0.num_selected"] > 0
    for state in run_processes(sharded_masks, world_size):
        torch.testing.assert_close(state, single)
