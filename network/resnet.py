"""ResNet, ResNeXt and Wide ResNet backbones as five stages, on torchvision's blocks and entry names."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet as tv

from network.backbone import Backbone, dilate_stages, place_norms, warn_of_unused_codes
from network.normalization import make_norm
from network.segmentation import initialize
from utils.norms import Norm


class BasicBlock(tv.BasicBlock):
    """torchvision's block with a place for a norm between the residual sum and the last ReLU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.instance_norm_layer(x + identity).relu()


class Bottleneck(tv.Bottleneck):
    """torchvision's block with a place for a norm between the residual sum and the last ReLU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.instance_norm_layer(x + identity).relu()


VARIANTS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...], dict[str, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), {}),
    "resnet50": (Bottleneck, (3, 4, 6, 3), {}),
    "resnet101": (Bottleneck, (3, 4, 23, 3), {}),
    "resnet101_deep_stem": (Bottleneck, (3, 4, 23, 3), {}),
    "resnet152": (Bottleneck, (3, 8, 36, 3), {}),
    "resnext50_32x4d": (Bottleneck, (3, 4, 6, 3), {"groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": (Bottleneck, (3, 4, 23, 3), {"groups": 32, "width_per_group": 8}),
    "wide_resnet50_2": (Bottleneck, (3, 4, 6, 3), {"width_per_group": 128}),
    "wide_resnet101_2": (Bottleneck, (3, 4, 23, 3), {"width_per_group": 128}),
}

# Dilation of all 3x3 convolutions in layer2, layer3, layer4, by output stride (torchvision's own option does
# not dilate the first block of a stage).
DILATIONS = {32: (1, 1, 1), 16: (1, 1, 2), 8: (1, 2, 4), 4: (2, 4, 8)}
# From torchvision's names, and from the two forms of names of a deep stem: the published file numbers its
# convolutions and norms; in the other form, conv1 is everything except the last norm.
PREFIXES = {"conv1.": "layer0.0.", "bn1.": "layer0.1."}
DEEP_STEM_PREFIXES = {"conv1.": "layer0.", "bn1.": "layer0.7."}
NUMBERED_STEM_PREFIXES = {
    **{"conv1.": "layer0.0.", "conv2.": "layer0.3.", "conv3.": "layer0.6."},
    **{"bn1.": "layer0.1.", "bn2.": "layer0.4.", "bn3.": "layer0.7."},
}


def stem_norm(code: Norm, channels: int) -> nn.Module:
    """Return the norm of `code`, which replaces batch norm in the stem."""
    return make_norm(code, channels) if code else nn.BatchNorm2d(channels)


def deep_stem(codes: tuple[Norm, ...]) -> nn.Sequential:
    """Return the three-3x3 stem (64, 64, 128 channels) of the published ResNet-101, one code per norm."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride, code in zip((3, 64, 64), (64, 64, 128), (2, 1, 1), codes, strict=True):
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        layers += [conv, stem_norm(code, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, padding=1))


def build(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return backbone `name` of VARIANTS, dilated to `output_stride`, with the norms of `wt_layer`.

    Index 2 is the norm of the 7x7 stem; 0, 1 and 2 are those of the deep stem; 3..6 end layer1..layer4.
    """
    block, depths, options = VARIANTS[name]
    trunk = tv.ResNet(block, list(depths), **options)
    if name.endswith("deep_stem"):
        layer0, stem_channels, prefixes = deep_stem(wt_layer[:3]), 128, DEEP_STEM_PREFIXES
        variants = {"conv2.weight": NUMBERED_STEM_PREFIXES}
        trunk.inplanes = stem_channels
        trunk.layer1 = trunk._make_layer(block, 64, depths[0])
        for made_here in (layer0, trunk.layer1):
            initialize(made_here, mode="fan_out")  # as torchvision does for the other layers
    else:
        layer0 = nn.Sequential(trunk.conv1, stem_norm(wt_layer[2], 64), nn.ReLU(), trunk.maxpool)
        stem_channels, prefixes, variants = 64, PREFIXES, {}
        warn_of_unused_codes("a ResNet with a 7x7 stem", wt_layer, (0, 1))
    stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
    channels = tuple(block.expansion * width for width in (64, 128, 256, 512))
    dilate_stages(stages[1:], DILATIONS[output_stride])
    place_norms(stages, wt_layer[3:], channels)
    return Backbone((layer0, *stages), (stem_channels, *channels), prefixes, output_stride, variants)


def build_strided_conv1(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return `build`'s backbone as DA-SAC has it (arXiv 2105.00097), for bottleneck blocks.

    The stride of layer2 is in the 1x1 conv1 of its first block, not in the 3x3 conv2. The max-pooling rounds
    sizes up. The entries are the same.
    """
    backbone = build(name, wt_layer, output_stride)
    layer0, _, layer2, *_ = backbone.stages
    first, pool = next(layer2.children()), list(layer0.children())[-1]
    assert isinstance(first, Bottleneck) and isinstance(pool, nn.MaxPool2d)
    pool.ceil_mode = True
    first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
    return backbone
