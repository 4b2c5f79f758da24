import copy

import pytest
import torch
from torch import nn

from network import ARCHS
from network.backbone import Backbone
from network.folding import Folded, FoldedConv, PooledNorm
from network.instance_whitening import SelectiveInstanceWhitening
from network.segmentation import SegOutput, StagedNet, resize
from network.standardization import standardize_plainly

PLAIN, MIXED, OTHERS = (0,) * 7, (0, 0, 2, 1, 3, 4, 5), (1, 4, 6, 0, 0, 2, 3)
CASES = [("DeepResNext50V3PlusD", PLAIN), ("DeepR101V3PlusD", OTHERS)]
FAMILIES = ["DeepR18V3PlusD", "DeepShuffleNetV3PlusD", "DeepMobileNetV3PlusD", "DeepMNASNet05V3PlusD"]
CASES += [("DeepR101V2", MIXED), ("DeepVGG16V2", PLAIN)]
CASES += [(arch, codes) for arch in FAMILIES for codes in (PLAIN, MIXED, OTHERS)]


def trained(arch, codes):
    """Return a float64 network in eval mode whose batch norms do something."""
    torch.manual_seed(0)
    net = ARCHS[arch](wt_layer=codes).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize(("arch", "codes"), CASES)
def test_scores_are_the_networks(arch, codes):
    """In float64 folding changes nothing but the order of roundings, with any norms in between."""
    net, image = trained(arch, codes), torch.randn(2, 3, 32, 48, dtype=torch.float64)
    with torch.inference_mode():
        expected = net(image).logits
        scores = Folded(net)(image).logits
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def test_the_network_stays_as_it_is():
    net = trained("DeepR18V3PlusD", PLAIN).train()
    before = copy.deepcopy(net.state_dict())
    Folded(net)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_no_batch_norm_and_no_separate_relu_is_left_in_resnet():
    """Of ResNet-50 all 53 convolutions of the backbone and 9 of the head have a batch norm."""
    folded = Folded(ARCHS["DeepR50V3PlusD"]())
    head = 5 + 1 + 1 + 2  # ASPP, bot_fine, bot_aspp, final1
    kinds = [type(module) for name, module in folded.named_modules() if "dsn" not in name]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(FoldedConv) == 53 + head
    without_relu = [m for m in folded.modules() if isinstance(m, FoldedConv) and not m.relu]
    assert len(without_relu) == 4  # the shortcuts, which are added before the ReLU


def test_bfloat16_scores_are_float32_and_near():
    net = trained("DeepR18V3PlusD", PLAIN).float()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, scores = net(image).logits, Folded(net, "bf16")(image).logits
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().mean() < 0.05 * expected.std()


class PreActivation(nn.Module):
    """A convolution whose batch norm is declared after it but applied before it."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.conv(self.norm(x).relu())


class SmallNet(StagedNet):
    classifiers = ("head",)

    def __init__(self, block):
        stages = (nn.Conv2d(3, 8, 3, stride=2, padding=1), *(nn.Sequential(block(8)) for _ in range(4)))
        super().__init__(Backbone(stages, (8,) * 5, {}, 2))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))
        return SegOutput(resize(self.head(x), image.shape[-2:]), None, ())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_pre_activation_block_runs_unfolded(precision, caplog):
    """Folded in the order of declaration it would compute norm(conv(relu(x))), something else."""
    torch.manual_seed(0)
    net = SmallNet(PreActivation).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(0.5, 1.5)
    with caplog.at_level("WARNING", "robustnet"):
        folded = Folded(net, precision)
    (record,) = caplog.records
    assert record.args[0] > 0.01 and f"{record.args[0]:.2g}" in record.getMessage()
    assert not any(isinstance(module, FoldedConv) for module in folded.modules())
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        scores, expected = folded(image).logits, net(image).logits
    assert (scores - expected).norm() <= (0.02 if precision == "bf16" else 1e-6) * expected.norm()


def test_the_self_check_accepts_the_declared_order_and_draws_nothing(caplog):
    """The same two layers applied in the order of their declaration fold."""
    net = SmallNet(lambda channels: nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)))
    before = torch.get_rng_state()
    with caplog.at_level("WARNING", "robustnet"):
        folded = Folded(net)
    assert torch.equal(torch.get_rng_state(), before) and not caplog.records
    assert sum(isinstance(module, FoldedConv) for module in folded.modules()) == 4


@pytest.mark.parametrize(
    ("arch", "codes"),
    [(arch, codes) for arch in FAMILIES for codes in (PLAIN, MIXED, OTHERS, (0, 0, 2, 2, 2, 2, 2))],
)
def test_rounding_in_float32_is_no_reason_to_warn(arch, codes, caplog):
    with caplog.at_level("WARNING", "robustnet"):
        Folded(trained(arch, codes).float())
    assert "folding" not in caplog.text


def test_pooling_before_an_instance_norm_gives_the_same_numbers():
    """To the bit: neither the norm nor ReLU changes the order of numbers. A stem of ISW is folded so."""
    torch.manual_seed(0)
    x, pool = torch.randn(2, 3, 9, 12), nn.MaxPool2d(3, 2, padding=1)
    assert torch.equal(PooledNorm(pool)(x).relu(), pool(standardize_plainly(x, x).relu()))
    kinds = [type(m) for m in Folded(trained("DeepR18V3PlusD", (0, 0, 2, 2, 2, 0, 0))).net.layer0.modules()]
    assert PooledNorm in kinds and SelectiveInstanceWhitening not in kinds
    affine = [type(m) for m in Folded(trained("DeepR18V3PlusD", (0, 0, 4, 4, 0, 0, 0))).net.layer0.modules()]
    assert PooledNorm not in affine


def test_shortcuts_and_convolutions_before_an_instance_norm_add_no_bias():
    """Of the 4 shortcuts of ResNet-50 and, with ISW, of the last blocks of two stages."""
    for codes, count in ((PLAIN, 4), ((0, 0, 2, 2, 2, 0, 0), 6)):
        folded = Folded(ARCHS["DeepR50V3PlusD"](wt_layer=codes))
        without = [name for name, m in folded.named_modules() if isinstance(m, FoldedConv) and m.bias is None]
        assert len(without) == count
