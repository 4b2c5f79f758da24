"""FCN-8s (Long et al., CVPR 2015, arXiv 1411.4038), the smaller network that DA-SAC was published with."""

from torch import Tensor, nn

from network.backbone import Backbone
from network.dropout import JointDropout2d
from network.segmentation import SegOutput, StagedNet, initialize_classifiers, resize


def fully_connected(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """Return a convolution that replaces a fully connected layer of VGG, with its norm and dropout."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), JointDropout2d(0.1))


class FCN8s(StagedNet):
    """Five backbone stages of strides 2 to 32; scores at strides 32, 16 and 8 are added up."""

    classifiers = ("score5", "score4", "score3")

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone)
        _, _, pool3, pool4, pool5 = backbone.channels
        self.fc6 = fully_connected(pool5, 4096, 7)
        self.fc7 = fully_connected(4096, 4096, 1)
        self.score5, self.score4, self.score3 = (
            nn.Conv2d(channels, num_classes, 1) for channels in (4096, pool4, pool3)
        )
        initialize_classifiers((self.score4, self.score3))

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        pool3 = self.layer2(self.layer1(self.layer0(image)))  # (B, 256, H/8, W/8)
        pool4 = self.layer3(pool3)
        logits = self.score5(self.fc7(self.fc6(self.layer4(pool4))))
        for score, maps in ((self.score4, pool4), (self.score3, pool3)):
            logits = score(maps) + resize(logits, maps.shape[-2:])
        return SegOutput(resize(logits, image.shape[-2:]), None, self.take_whitened())
