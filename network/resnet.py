"""ResNet, ResNeXt and Wide ResNet backbones as five stages, on torchvision's blocks and entry names."""

import logging

from torch import Tensor, nn
from torchvision.models import resnet as tv

from network.backbone import Backbone, dilate
from network.normalization import make_norm

logger = logging.getLogger("robustnet")


class BasicBlock(tv.BasicBlock):
    """torchvision's block with a place for a norm between the residual sum and the last ReLU."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.instance_norm_layer(x + identity).relu()


class Bottleneck(tv.Bottleneck):
    """torchvision's block with a place for a norm between the residual sum and the last ReLU."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.instance_norm_layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return self.instance_norm_layer(x + identity).relu()


VARIANTS = {
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

# Dilation of the 3x3 convolutions in layer2, layer3, layer4, by output stride; of every block, the first
# included (torchvision's own option leaves that one out).
DILATIONS = {32: (1, 1, 1), 16: (1, 1, 2), 8: (1, 2, 4), 4: (2, 4, 8)}
# In torchvision's names, and in those of a deep stem: conv1 is all of it but its last norm.
PREFIXES = {"conv1.": "layer0.0.", "bn1.": "layer0.1."}
DEEP_STEM_PREFIXES = {"conv1.": "layer0.", "bn1.": "layer0.7."}


def stem_norm(code: int, channels: int) -> nn.Module:
    return make_norm(code, channels) if code else nn.BatchNorm2d(channels)


def deep_stem(codes: tuple[int, ...]) -> nn.Sequential:
    """Return the three-3x3 stem (64, 64, 128 channels) of the published ResNet-101, one code per norm."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride, code in zip((3, 64, 64), (64, 64, 128), (2, 1, 1), codes, strict=True):
        conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        layers += [conv, stem_norm(code, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, padding=1))


def build(name: str, wt_layer: tuple[int, ...], output_stride: int) -> Backbone:
    """Return backbone `name` of VARIANTS, dilated to `output_stride`, with the norms of `wt_layer`.

    Index 2 is the norm of the 7x7 stem (0, 1, 2 the three of the deep one); 3..6 end layer1..layer4.
    """
    block, depths, options = VARIANTS[name]
    trunk = tv.ResNet(block, depths, **options)
    if name.endswith("deep_stem"):
        layer0, stem_channels, prefixes = deep_stem(wt_layer[:3]), 128, DEEP_STEM_PREFIXES
        trunk.inplanes = stem_channels
        trunk.layer1 = trunk._make_layer(block, 64, depths[0])
    else:
        layer0 = nn.Sequential(trunk.conv1, stem_norm(wt_layer[2], 64), nn.ReLU(), trunk.maxpool)
        stem_channels, prefixes = 64, PREFIXES
        if any(wt_layer[:2]):
            logger.warning("wt_layer's first two codes are ignored: only the ResNet-101 stem has these norms")
    stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
    channels = tuple(block.expansion * width for width in (64, 128, 256, 512))
    for stage, dilation in zip(stages[1:], DILATIONS[output_stride], strict=True):
        if dilation > 1:
            dilate(stage, dilation)
    for stage, code, width in zip(stages, wt_layer[3:], channels, strict=True):
        if code:
            stage[-1].instance_norm_layer = make_norm(code, width)
    return Backbone((layer0, *stages), (stem_channels, *channels), prefixes)
