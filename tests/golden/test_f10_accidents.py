"""What ours does on purpose where the published code does otherwise; golden/fidelity_F10 holds its numbers.

README lists these differences.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loss import relaxed_cross_entropy
from network.deepv3 import ASPP
from network.instance_whitening import Whitening
from network.switchable_whitening import SwitchableWhitening
from tests.golden.recipe import fidelity, randn
from utils.training import tensorboard
from utils.training.trainer import Scores

F10, _ = fidelity("F10")


@pytest.mark.parametrize("case", F10["fixed_aspp_pool"]["cases"], ids=lambda case: str(case["size"]))
def test_fixed_aspp_pool_has_a_window_around_every_place(case):
    """The published windows are every 105th of ours, which are 1 px apart: 4 channels, averages."""
    aspp = ASPP(4, 4).eval()
    aspp.pool_window = 105
    seen = []
    aspp.img_conv = torch.nn.Sequential()
    aspp.img_conv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        aspp(randn(case["seed"], 1, 4, *case["size"]).float())
    (pooled,) = seen
    assert pooled.shape[2:] == tuple(side - 104 for side in case["size"])
    np.testing.assert_allclose(pooled[0, :, ::105, ::105].numpy(), case["pooled"], atol=1e-5)


@pytest.mark.parametrize("case", F10["relaxation off"]["cases"], ids=lambda case: str(case["strict"]))
def test_shares_of_the_classes_once_relaxation_is_off(case):
    """Ours counts each px once, the published code px on a boundary twice: 1.2e-4 in the loss."""
    generator = torch.Generator().manual_seed(case["seed"] + 1)
    label = torch.randint(0, 19, (2, 8, 12), generator=generator)
    label = label.repeat_interleave(4, 1).repeat_interleave(4, 2)
    label[:, :2] = 255
    logits = randn(case["seed"], 2, 19, 32, 48)
    on, off = (
        relaxed_cross_entropy(logits, label, 1.0, case["batch_weighting"], case["strict"], relaxed).item()
        for relaxed in (True, False)
    )
    assert on == pytest.approx(case["on"], rel=1e-6)
    assert 1e-6 < abs(off / case["off"] - 1) < 2e-4


def test_switchable_whitening_starts_at_the_identity():
    layer = SwitchableWhitening(32)
    assert torch.equal(layer.running_cov, torch.eye(16).repeat(2, 1, 1))
    assert F10["switchable whitening start"]["running_cov_max"] == 0 and not layer.running_mean.any()


@pytest.mark.parametrize("relax_denom", [0.0, 2.0, 4.0])
def test_isw_clusters_whatever_relax_denom_is(relax_denom):
    """The published code clusters only with 0. Maps are those of fidelity.json's "F6 masks"."""
    case = F10["code 2 with relax_denom"]
    seed, channels, (height, width) = case["seed"], case["channels"], case["pixels"]
    whitening = Whitening([channels], [True], clusters=3, relax_denom=relax_denom).double()
    assert whitening.masks[0].margin == 0
    mixing, start = randn(100000 * seed + 50000, channels, channels), 100000 * seed
    for i in range(case["images"]):
        base = mixing @ randn(start + i, channels, height * width)
        view = base + randn(start + 60000, channels, 1) * base.roll(1, 0).sin()
        maps = torch.stack([view, base]).view(2, channels, height, width)
        whitening.observe((F.instance_norm(maps, eps=1e-5),))
    whitening.finish_trial()
    assert whitening.masks[0].mask.nonzero().tolist() == case["kept"]["0"]


def test_validation_is_drawn_over_epochs():
    class Writer:
        def add_scalar(self, tag, value, step):
            steps[tag] = step

    steps = {}
    tensorboard.scores(Writer(), "cityscapes", Scores(*[0.5] * len(Scores._fields)), 7)
    assert steps["cityscapes/mean_iu"] == 7 and set(steps.values()) == {7}
