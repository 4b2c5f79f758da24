"""DeepLabV2 (Chen et al., TPAMI 2018, arXiv 1606.00915), the network that DA-SAC was published with."""

from torch import Tensor, nn

from network.backbone import Backbone
from network.segmentation import SegOutput, StagedNet, initialize_classifiers, resize

RATES = (6, 12, 18, 24)
FC_CHANNELS = 1024


class DeepLabV2(StagedNet):
    """Five backbone stages and the sum of four dilated 3x3 convolutions; no auxiliary head."""

    classifiers = tuple(f"branches.{i}" for i in range(len(RATES)))

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone)
        self.branches = dilated_branches(backbone.channels[-1], num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Return what the branches see, (B, C, H/8, W/8), of a normalized image (B, 3, H, W)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        x = self.features(image)
        first, *others = (branch(x) for branch in self.branches)
        return SegOutput(resize(sum(others, first), image.shape[-2:]), None, self.take_whitened())


class DeepLabV2FC(DeepLabV2):
    """DeepLabV2 with two 3x3 convolutions that replace the fully connected layers of VGG."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        StagedNet.__init__(self, backbone)
        self.fc6 = nn.Conv2d(backbone.channels[-1], FC_CHANNELS, 3, padding=4, dilation=4)
        self.fc7 = nn.Conv2d(FC_CHANNELS, FC_CHANNELS, 3, padding=4, dilation=4)
        self.branches = dilated_branches(FC_CHANNELS, num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Return what the branches see, (B, FC_CHANNELS, H/8, W/8), of a normalized image (B, 3, H, W)."""
        return self.fc7(self.fc6(super().features(image)).relu()).relu()


def dilated_branches(channels: int, num_classes: int) -> nn.ModuleList:
    """Return one dilated 3x3 convolution to class scores for each of RATES."""
    branches = [nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in RATES]
    initialize_classifiers(branches)
    return nn.ModuleList(branches)
