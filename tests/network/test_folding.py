import copy

import pytest
import torch
from torch import nn

from network import ARCHS
from network.folding import Folded, FoldedConv

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
    """In float64 folding changes nothing but the order of roundings, whatever norms stand between."""
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
