"""VGG-16 with batch norm (Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556) as five stages; FCN-8s.

Batch norm is what the first phase of adaptation moves, so that the plain VGG-16 would have nothing to adapt.
"""

from torch import Tensor, nn
from torchvision.models import vgg

from network.backbone import Backbone, cut, dilate
from network.deepv3 import CODES_OFF, SegOutput, StagedNet, initialize, resize
from network.normalization import check_codes
from network.pretrained import load_pretrained

NAME = "vgg16_bn"
CHANNELS = (64, 128, 256, 512, 512)
FULLY_CONNECTED = {"classifier.0.": "fc6.", "classifier.3.": "fc7."}  # convolutions here


def build(wt_layer: tuple[int, ...]) -> Backbone:
    """Return the five blocks, each with its pooling, strides 2 to 32; ValueError for a code in `wt_layer`."""
    if any(wt_layer):
        raise ValueError(f"VGG-16 has no place for the norms of wt_layer {list(wt_layer)}; use 0 0 0 0 0 0 0")
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=True)
    initialize(features)
    ends = [i + 1 for i, module in enumerate(features) if isinstance(module, nn.MaxPool2d)]
    stages, prefixes = cut(features, (0, *ends), "features")
    return Backbone(stages, CHANNELS, prefixes | FULLY_CONNECTED)


def dilated(wt_layer: tuple[int, ...]) -> Backbone:
    """Return the five blocks at output stride 8: no stride in the last two poolings, block 5 dilated by 2."""
    backbone = build(wt_layer)
    for stage in backbone.stages[3:]:
        stage[-1] = nn.MaxPool2d(3, stride=1, padding=1)
    dilate(backbone.stages[4], 2)
    return backbone


class FCN8s(StagedNet):
    """FCN-8s (Long et al., CVPR 2015, arXiv 1411.4038): scores at strides 32, 16 and 8 are added up."""

    classifiers = ("score5", "score4", "score3")

    def __init__(self, backbone: Backbone, num_classes: int):
        super().__init__(backbone)
        self.fc6 = nn.Conv2d(CHANNELS[4], 4096, 7, padding=3)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.dropout = nn.Dropout2d(0.5)
        self.score5, self.score4, self.score3 = (
            nn.Conv2d(channels, num_classes, 1) for channels in (4096, CHANNELS[3], CHANNELS[2])
        )
        for score in (self.score5, self.score4, self.score3):
            nn.init.normal_(score.weight, std=0.01)
            nn.init.zeros_(score.bias)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        pool3 = self.layer2(self.layer1(self.layer0(image)))  # (B, 256, H/8, W/8)
        pool4 = self.layer3(pool3)
        x = self.dropout(self.fc6(self.layer4(pool4)).relu())
        logits = self.score5(self.dropout(self.fc7(x).relu()))
        for score, maps in ((self.score4, pool4), (self.score3, pool3)):
            logits = score(maps) + resize(logits, maps.shape[-2:])
        return SegOutput(resize(logits, image.shape[-2:]), None, ())


def VGG16FCN8s(
    num_classes: int = 19, wt_layer: tuple[int, ...] = CODES_OFF, pretrained: str | None = None
) -> FCN8s:
    """Build the network; `pretrained` is "imagenet", a file of weights, or None."""
    check_codes(wt_layer)
    backbone = build(tuple(wt_layer))
    net = FCN8s(backbone, num_classes)
    if pretrained:
        load_pretrained(net, NAME, pretrained, backbone.prefixes)
    return net
