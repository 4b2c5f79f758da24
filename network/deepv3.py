"""DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611) and one short builder per public arch name."""

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network import mnasnet, mobilenet, resnet, shufflenet
from network.backbone import Backbone
from network.instance_whitening import InstanceWhitening
from network.normalization import check_codes
from network.pretrained import load_pretrained
from utils.distributed import world_size


class SegOutput(NamedTuple):
    """What a segmentation network returns."""

    logits: Tensor  # (B, K, H, W), upsampled with align_corners=True
    aux_logits: Tensor | None  # (B, K, H/s, W/s), from layer3; None in eval mode
    whitened: tuple[Tensor, ...]  # (B, C, h, w) standardized maps at positions whose code is 1 or 2


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Resize x (B, C, h, w) to size (H, W), bilinear, corners aligned."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a size-preserving convolution without bias, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: image pooling, 1x1, three dilated 3x3, concatenated in that order."""

    def __init__(self, inputs: int, outputs: int = 256, output_stride: int = 16):
        super().__init__()
        rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
        self.features = nn.ModuleList(
            [conv_bn_relu(inputs, outputs), *(conv_bn_relu(inputs, outputs, 3, rate) for rate in rates)]
        )
        self.img_conv = conv_bn_relu(inputs, outputs)
        self.pool_window: int | None = None  # px of the feature map; None pools over the whole image

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, 5 * outputs, h, w)."""
        size = x.shape[-2:]
        if self.pool_window is None:
            pooled = x.mean((2, 3), keepdim=True)
        else:
            pooled = F.avg_pool2d(x, [min(self.pool_window, side) for side in size], stride=1)
        return torch.cat([resize(self.img_conv(pooled), size), *(branch(x) for branch in self.features)], 1)


class StagedNet(nn.Module):
    """Five backbone stages, and the whitened maps within them.

    `classifiers` names the layers that put out class scores.
    """

    classifiers: ClassVar[tuple[str, ...]]

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.layer0, self.layer1, self.layer2, self.layer3, self.layer4 = backbone.stages

    def whitened_maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return `SegOutput.whitened` of image (B, 3, H, W); no stage behind the last whitened one runs."""
        stages = [self.layer0, self.layer1, self.layer2, self.layer3, self.layer4]
        while stages and not whitening_layers(stages[-1]):
            stages.pop()
        for stage in stages:
            image = stage(image)
        return self.take_whitened()

    def take_whitened(self) -> tuple[Tensor, ...]:
        return tuple(layer.take() for layer in whitening_layers(self))


class DeepV3Plus(StagedNet):
    """DeepLabV3+ on five backbone stages; labels and losses stay outside."""

    classifiers = ("final2",)

    def __init__(self, backbone: Backbone, num_classes: int, output_stride: int):
        super().__init__(backbone)
        _, low_level, _, aux, high_level = backbone.channels
        self.aspp = ASPP(high_level, 256, output_stride)
        self.bot_fine = conv_bn_relu(low_level, 48)
        self.bot_aspp = conv_bn_relu(5 * 256, 256)
        self.final1 = nn.Sequential(*conv_bn_relu(48 + 256, 256, 3), *conv_bn_relu(256, 256, 3))
        self.final2 = nn.Sequential(nn.Conv2d(256, num_classes, 1))
        self.dsn = nn.Sequential(
            nn.Conv2d(aux, 512, 3, padding=1),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(512, num_classes, 1),
        )
        for module in (self.aspp, self.bot_fine, self.bot_aspp, self.final1, self.final2, self.dsn):
            initialize(module)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W).

        Raises ValueError for a single image in train mode: the image pooling leaves one value per channel.
        """
        if self.training and len(image) * world_size() < 2:
            raise ValueError(
                "training takes batches of 2 or more images over all processes, not 1: batch norm behind "
                "the image pooling sees one value of each"
            )
        low_level = self.layer1(self.layer0(image))  # (B, C, H/4, W/4)
        aux = self.layer3(self.layer2(low_level))
        x = self.bot_aspp(self.aspp(self.layer4(aux)))
        fine = self.bot_fine(low_level)
        x = self.final1(torch.cat([fine, resize(x, fine.shape[-2:])], 1))
        logits = resize(self.final2(x), image.shape[-2:])
        return SegOutput(logits, self.dsn(aux) if self.training else None, self.take_whitened())


def whitening_layers(module: nn.Module) -> list[InstanceWhitening]:
    """Return the whitening layers of `module` in the order of the forward pass."""
    return [m for m in module.modules() if isinstance(m, InstanceWhitening)]


def initialize(module: nn.Module) -> None:
    """Draw the weights of a head's convolutions from He et al.'s normal distribution (arXiv 1502.01852)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


CODES_OFF = (0,) * 7


def deeplab(name: str, output_stride: int, family=resnet):
    """Return the builder of a DeepLabV3+ on the backbone `name` of the module `family`."""

    def build(
        num_classes: int = 19, wt_layer: tuple[int, ...] = CODES_OFF, pretrained: str | None = None
    ) -> DeepV3Plus:
        """Build the network; `pretrained` is "imagenet", a file of weights, or None."""
        check_codes(wt_layer)
        backbone = family.build(name, tuple(wt_layer), output_stride)
        net = DeepV3Plus(backbone, num_classes, output_stride)
        if pretrained:
            load_pretrained(net, name, pretrained, backbone.prefixes)
        return net

    return build


DeepR18V3PlusD = deeplab("resnet18", 32)
DeepR50V3PlusD = deeplab("resnet50", 16)
DeepR50V3PlusD_OS8 = deeplab("resnet50", 8)
DeepR101V3PlusD = deeplab("resnet101_deep_stem", 16)
DeepR101V3PlusD_OS8 = deeplab("resnet101_deep_stem", 8)
DeepR152V3PlusD_OS8 = deeplab("resnet152", 8)
DeepResNext50V3PlusD = deeplab("resnext50_32x4d", 16)
DeepResNext101V3PlusD = deeplab("resnext101_32x8d", 16)
DeepResNext101V3PlusD_OS8 = deeplab("resnext101_32x8d", 8)
DeepResNext101V3PlusD_OS4 = deeplab("resnext101_32x8d", 4)
DeepWideResNet50V3PlusD = deeplab("wide_resnet50_2", 16)
DeepWideResNet50V3PlusD_OS8 = deeplab("wide_resnet50_2", 8)
DeepWideResNet101V3PlusD = deeplab("wide_resnet101_2", 16)
DeepWideResNet101V3PlusD_OS8 = deeplab("wide_resnet101_2", 8)
DeepShuffleNetV3PlusD = deeplab("shufflenet_v2_x1_0", 16, shufflenet)
DeepShuffleNetV3PlusD_OS8 = deeplab("shufflenet_v2_x1_0", 8, shufflenet)
DeepShuffleNetV3PlusD_OS32 = deeplab("shufflenet_v2_x1_0", 32, shufflenet)
DeepMobileNetV3PlusD = deeplab("mobilenet_v2", 16, mobilenet)
DeepMobileNetV3PlusD_OS8 = deeplab("mobilenet_v2", 8, mobilenet)
DeepMNASNet05V3PlusD = deeplab("mnasnet0_5", 16, mnasnet)
DeepMNASNet10V3PlusD = deeplab("mnasnet1_0", 16, mnasnet)
