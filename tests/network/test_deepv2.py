"""The networks that adaptation was published with: DeepLabV2 and FCN-8s."""

import pytest
import torch
from torch import nn
from torchvision import models

from network import ARCHS, vgg
from network.deepv2 import DeepLabV2
from network.fcn8s import FCN8s
from network.instance_whitening import Whitening
from network.pretrained import load_pretrained
from utils.errors import UserError
from utils.norms import NO_NORMS


@pytest.mark.parametrize(
    "arch",
    [
        "DeepVGG16V2",
        pytest.param("DeepR101V2", marks=pytest.mark.slow),
        pytest.param("VGG16FCN8s", marks=pytest.mark.slow),
    ],
)
def test_output_and_a_gradient_everywhere(arch):
    net = ARCHS[arch](num_classes=5)
    output = net(torch.randn(2, 3, 33, 47))
    assert output.logits.shape == (2, 5, 33, 47)
    assert output.aux_logits is None and output.whitened == ()
    output.logits.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def sizes(net, image):
    found = []
    for stage in (net.layer0, net.layer1, net.layer2, net.layer3, net.layer4):
        image = stage(image)
        found.append(image.shape[-1])
    return found


def test_strides_and_dilations():
    image = torch.randn(1, 3, 64, 64)
    net = ARCHS["DeepR101V2"]().eval()
    assert sizes(net, image) == [16, 16, 8, 8, 8]
    assert {block.conv2.dilation for block in net.layer4} == {(4, 4)}
    assert [branch.dilation for branch in net.branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]
    net = DeepLabV2(vgg.build("vgg16_bn", NO_NORMS, 8), 3).eval()
    assert sizes(net, image) == [32, 16, 8, 8, 8]
    assert {m.dilation for m in net.layer4 if isinstance(m, nn.Conv2d)} == {(2, 2)}
    with torch.device("meta"):
        net = FCN8s(vgg.build("vgg16_bn", NO_NORMS, 32), 3)
    assert sizes(net, image.to("meta")) == [32, 16, 8, 4, 2]


def test_a_constant_map_through_the_head():
    """Far from the border each branch sums nine weights times the value, plus its bias."""
    net = DeepLabV2(vgg.build("vgg16_bn", NO_NORMS, 8), 1).eval()
    x = torch.ones(1, 512, 51, 51)
    expected = sum(branch.weight.sum() + branch.bias for branch in net.branches)
    middle = sum(branch(x) for branch in net.branches)[0, 0, 25, 25]
    torch.testing.assert_close(middle, expected[0], rtol=1e-3, atol=1e-3)


def test_a_whitened_deeplab_v2():
    net = ARCHS["DeepR101V2"](wt_layer=(0, 0, 2, 2, 0, 0, 0))
    maps = net(torch.randn(2, 3, 32, 32)).whitened
    assert [m.shape[1] for m in maps] == [64, 256]
    assert Whitening.for_network(net, clusters=3, relax_denom=0).loss(maps) == 0


@pytest.mark.parametrize("arch", ["DeepVGG16V2", "VGG16FCN8s"])
def test_vgg_has_no_place_for_other_norms(arch):
    with pytest.raises(UserError, match=r"--wt_layer \[0, 0, 2, 2, 2, 0, 0\]"):
        ARCHS[arch](wt_layer=(0, 0, 2, 2, 2, 0, 0))


def test_torchvisions_vgg_fills_every_block(tmp_path, caplog):
    """13 convolutions with bias and batch norm of 5 entries each."""
    with torch.device("meta"):
        trunk = models.vgg16_bn(weights=None).features
    trunk.to_empty(device="cpu")
    for value in trunk.state_dict().values():
        value.fill_(1)
    torch.save({f"features.{k}": v for k, v in trunk.state_dict().items()}, tmp_path / "vgg.pth")
    with caplog.at_level("INFO", "robustnet"):
        net = ARCHS["DeepVGG16V2"](pretrained=str(tmp_path / "vgg.pth"))
    assert f"{13 * 7} entries loaded" in caplog.text and "left random: branches" in caplog.text
    torch.testing.assert_close(net.layer4[6].weight, trunk[40].weight)


def test_fully_connected_layers_become_convolutions(tmp_path):
    """A linear layer on a flattened 4 x 7 x 7 map is a 7 x 7 convolution."""
    linear, net = nn.Linear(4 * 7 * 7, 3), nn.ModuleDict({"fc6": nn.Conv2d(4, 3, 7)})
    torch.save({f"classifier.0.{k}": v for k, v in linear.state_dict().items()}, tmp_path / "vgg.pth")
    load_pretrained(net, "vgg16_bn", str(tmp_path / "vgg.pth"), vgg.FULLY_CONNECTED)
    x = torch.randn(1, 4, 7, 7)
    torch.testing.assert_close(net["fc6"](x).flatten(1), linear(x.flatten(1)), rtol=1e-4, atol=1e-4)
