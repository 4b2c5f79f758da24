"""DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.backbone import Backbone
from network.dropout import JointDropout2d
from network.segmentation import SegOutput, StagedNet, initialize, resize
from network.standardization import in_channels_last
from utils.distributed import world_size
from utils.errors import UserError


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return a size-preserving convolution without bias, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: image pooling, 1x1, three dilated 3x3, concatenated in that order."""

    def __init__(self, inputs: int, outputs: int = 256, output_stride: int = 16) -> None:
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
        branches = [branch(x) for branch in self.features]
        image = resize(self.img_conv(pooled), size)
        if not torch.compiler.is_compiling() and in_channels_last(branches[0]):
            # Otherwise the result has another layout and is copied once more.
            image = image.contiguous(memory_format=torch.channels_last)
        return torch.cat([image, *branches], 1)


class DeepV3Plus(StagedNet):
    """DeepLabV3+ on five backbone stages; labels and losses stay outside."""

    classifiers = ("final2",)

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone)
        _, low_level, _, aux, high_level = backbone.channels
        self.aspp = ASPP(high_level, 256, backbone.output_stride)
        self.bot_fine = conv_bn_relu(low_level, 48)
        self.bot_aspp = conv_bn_relu(5 * 256, 256)
        self.final1 = nn.Sequential(*conv_bn_relu(48 + 256, 256, 3), *conv_bn_relu(256, 256, 3))
        self.final2 = nn.Sequential(nn.Conv2d(256, num_classes, 1))
        self.dsn = nn.Sequential(
            nn.Conv2d(aux, 512, 3, padding=1),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            JointDropout2d(0.1),
            nn.Conv2d(512, num_classes, 1),
        )
        for module in (self.aspp, self.bot_fine, self.bot_aspp, self.final1, self.final2, self.dsn):
            initialize(module)

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W).

        Raises UserError for a single image in train mode: image pooling leaves one value per channel, and
        batch norm needs more.
        """
        if self.training and len(image) * world_size() < 2:
            raise UserError(
                "training needs batches of 2 or more images over all processes, not 1: batch norm after the "
                "image pooling sees one value per image and channel"
            )
        low_level = self.layer1(self.layer0(image))  # (B, C, H/4, W/4)
        aux = self.layer3(self.layer2(low_level))
        x = self.bot_aspp(self.aspp(self.layer4(aux)))
        fine = self.bot_fine(low_level)
        x = self.final1(torch.cat([fine, resize(x, fine.shape[-2:])], 1))
        logits = resize(self.final2(x), image.shape[-2:])
        return SegOutput(logits, self.dsn(aux) if self.training else None, self.take_whitened())
