"""DeepLabV2 (Chen et al., TPAMI 2018, arXiv 1606.00915), the networks that adaptation was published with."""

from collections.abc import Callable

from torch import Tensor, nn

from network import resnet, vgg
from network.backbone import Backbone
from network.deepv3 import CODES_OFF, SegOutput, StagedNet, resize
from network.normalization import check_codes
from network.pretrained import load_pretrained

RATES = (6, 12, 18, 24)


class DeepLabV2(StagedNet):
    """Five backbone stages at output stride 8 and the sum of four dilated 3x3 convolutions; no aux head."""

    classifiers = tuple(f"branches.{i}" for i in range(len(RATES)))

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__(backbone)
        channels = backbone.channels[-1]
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in RATES
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))  # (B, C, H/8, W/8)
        logits = sum(branch(x) for branch in self.branches)
        return SegOutput(resize(logits, image.shape[-2:]), None, self.take_whitened())


def deeplab_v2(name: str, trunk: Callable[[tuple[int, ...]], Backbone]):
    """Return the builder of a DeepLabV2 on `trunk`, whose ImageNet weights are torchvision's of `name`."""

    def build(
        num_classes: int = 19, wt_layer: tuple[int, ...] = CODES_OFF, pretrained: str | None = None
    ) -> DeepLabV2:
        """Build the network; `pretrained` is "imagenet", a file of weights, or None."""
        check_codes(wt_layer)
        backbone = trunk(tuple(wt_layer))
        net = DeepLabV2(backbone, num_classes)
        if pretrained:
            load_pretrained(net, name, pretrained, backbone.prefixes)
        return net

    return build


DeepR101V2 = deeplab_v2("resnet101", lambda wt_layer: resnet.build("resnet101", wt_layer, 8))
DeepVGG16V2 = deeplab_v2(vgg.NAME, vgg.dilated)
