"""The networks that adaptation was published with: DeepLabV2 and FCN-8s."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from network import ARCHS, resnet, vgg
from network.deepv2 import DeepLabV2, DeepLabV2FC
from network.fcn8s import FCN8s
from network.instance_whitening import Whitening
from utils.errors import UserError
from utils.norms import NO_NORMS

# The published networks of DA-SAC; "note" in the file says how the numbers were made.
GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = json.loads((GOLDEN / "fidelity_F4.json").read_text())["F4 networks"]
ARRAYS = np.load(GOLDEN / "fidelity_F4.npz")
NETWORKS = PUBLISHED["networks"]


def empty(arch):
    """Return the network in eval mode with weights of no value, which takes no time to draw."""
    with torch.device("meta"):
        net = ARCHS[arch]()
    return net.to_empty(device="cpu").eval()


def of_type(net, kind):
    return [module for module in net.modules() if isinstance(module, kind)]


def randn(seed, *size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def fill(net, seed, gain):
    """Give every layer the numbers that the published network had in the probe."""
    for k, conv in enumerate(of_type(net, nn.Conv2d)):
        numbers = randn(seed + k, 65521) * math.sqrt(gain / conv.weight[0].numel())
        repeats = -(-conv.weight.numel() // len(numbers))
        conv.weight.copy_(numbers.repeat(repeats)[: conv.weight.numel()].view_as(conv.weight))
        if conv.bias is not None:
            conv.bias.copy_(0.1 * randn(seed + 1000 + k, len(conv.bias)))
    for k, norm in enumerate(of_type(net, nn.BatchNorm2d)):
        c = norm.num_features
        norm.weight.copy_(1 + 0.1 * randn(seed + 2000 + k, c))
        norm.bias.copy_(0.1 * randn(seed + 3000 + k, c))
        norm.running_mean.copy_(0.1 * randn(seed + 4000 + k, c))
        norm.running_var.copy_(0.5 + 0.5 * randn(seed + 5000 + k, c).abs())
    return net


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_logits(name):
    seed, size = PUBLISHED["seed"], PUBLISHED["size"]
    net = fill(empty(NETWORKS[name]["arch"]), seed, PUBLISHED["gain"][name])
    with torch.no_grad():
        logits = net(randn(seed + 9000, 1, 3, *size).float()).logits
    expected = torch.from_numpy(ARRAYS[name])
    logits = logits[0, :, :: size[0] // 4, :: size[1] // 4]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3 * expected.abs().max().item())


def geometry(conv):
    pairs = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    assert all(x == y for x, y in pairs)
    return [conv.out_channels, conv.in_channels, *(x for x, _ in pairs), int(conv.bias is not None)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_layers(name):
    published = NETWORKS[name]
    with torch.device("meta"):
        net = ARCHS[published["arch"]]()
    convs, norms = of_type(net, nn.Conv2d), of_type(net, nn.BatchNorm2d)
    pools = of_type(net, nn.MaxPool2d)
    assert sum(p.numel() for p in net.parameters()) == published["parameters"]
    assert [geometry(conv) for conv in convs] == published["convs"]
    assert [norm.num_features for norm in norms] == published["norm_channels"]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    assert [[p.kernel_size, p.stride, p.padding, p.ceil_mode] for p in pools] == published["pools"]
    assert [dropout.p for dropout in of_type(net, nn.Dropout2d)] == published["dropout"]
    assert of_type(net, nn.Dropout) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_sizes(name):
    """Of every convolution's output; the scores are the last one's."""
    published = NETWORKS[name]
    with torch.device("meta"):
        net = ARCHS[published["arch"]]().eval()
        image = torch.zeros(1, 3, 96, 128)
    seen = []
    for conv in of_type(net, nn.Conv2d):
        conv.register_forward_hook(lambda module, inputs, output: seen.append(list(output.shape[-2:])))
    net(image)
    assert seen == published["conv_outputs_of_96x128"]
    assert seen[-1] == published["scores_of_96x128"]


def test_the_scores_of_a_whole_view():
    with torch.device("meta"):
        net = ARCHS["DeepR101V2"]().eval()
        assert net.features(torch.zeros(1, 3, 512, 1024)).shape[-2:] == (65, 129)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_start(name):
    """Standard deviations of new convolutions; the pretrained ones have torchvision's names (below)."""
    torch.manual_seed(0)
    head = {"vgg16": DeepLabV2FC, "fcn8s": FCN8s}.get(name, DeepLabV2)
    family, stride = {"r101": (resnet.build, 8), "vgg16": (vgg.build, 8), "fcn8s": (vgg.build, 32)}[name]
    with torch.device("meta"):
        backbone = family({"r101": "resnet101"}.get(name, "vgg16_bn"), NO_NORMS, stride)
    net = head(backbone, 19)
    convs = of_type(net, nn.Conv2d)
    new = {k for k, conv in enumerate(convs) if not conv.weight.is_meta}
    assert new == {int(k) for k in NETWORKS[name]["new_convs"]}
    for k, std in NETWORKS[name]["new_convs"].items():
        assert convs[int(k)].weight.std().item() == pytest.approx(std, rel=0.03)


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


def test_strides_of_the_stages():
    """The max-pooling of DeepR101V2 rounds up: 32 -> 17 -> 9."""
    found = {}
    with torch.device("meta"):
        for arch in ("DeepR101V2", "DeepVGG16V2", "VGG16FCN8s"):
            found[arch] = sizes(ARCHS[arch]().eval(), torch.zeros(1, 3, 64, 64))
    assert found == {
        "DeepR101V2": [17, 17, 9, 9, 9],
        "DeepVGG16V2": [32, 16, 8, 8, 8],
        "VGG16FCN8s": [32, 16, 8, 4, 2],
    }


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
