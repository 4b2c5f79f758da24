"""DeepLabV2 (Chen et al., TPAMI 2018, arXiv 1606.00915), the network that DA-SAC was published with."""

from torch import Tensor, nn

from network.backbone import Backbone
from network.segmentation import SegOutput, StagedNet, initialize_classifiers, resize

RATES = (6, 12, 18, 24)


class DeepLabV2(StagedNet):
    """Five backbone stages and the sum of four dilated 3x3 convolutions; no auxiliary head."""

    classifiers = tuple(f"branches.{i}" for i in range(len(RATES)))

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone)
        channels = backbone.channels[-1]
        branches = [nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in RATES]
        initialize_classifiers(branches)
        self.branches = nn.ModuleList(branches)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(image)))))  # (B, C, H/8, W/8)
        first, *others = (branch(x) for branch in self.branches)
        return SegOutput(resize(sum(others, first), image.shape[-2:]), None, self.take_whitened())
