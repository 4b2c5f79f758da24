"""ShuffleNetV2 x1.0 (Ma et al., ECCV 2018, arXiv 1807.11164) as five stages, on torchvision's class."""

import logging

from torch import Tensor, nn
from torchvision.models import shufflenetv2 as tv

from network.backbone import Backbone, NormAtEnd, dilate
from network.normalization import make_norm

logger = logging.getLogger("robustnet")

REPEATS, CHANNELS = (4, 8, 4), (24, 116, 232, 464, 1024)
PREFIXES = {
    "conv1.": "layer0.layer.0.",
    "stage2.": "layer1.",
    "stage3.": "layer2.",
    "stage4.": "layer3.",
    "conv5.": "layer4.layer.",
}
DILATIONS = {32: (1, 1), 16: (1, 2), 8: (2, 4)}  # of layer2 and layer3, whose first blocks have a stride


class InvertedResidual(NormAtEnd, tv.InvertedResidual):
    """torchvision's block with a place for a norm behind the channel shuffle."""


class ReplacedNorm(nn.Module):
    """Convolution, the norm of `code` in place of batch norm, ReLU, and what follows.

    NOTE(published): the batch norm stays as unused entries, pinned by
    test_state_dict_entries_are_the_published_ones; here it is not trained.
    """

    def __init__(self, layer: nn.Sequential, conv: nn.Sequential, code: int):
        super().__init__()
        self.layer = layer  # `conv` itself, or a sequence that begins with it
        if code:
            conv[1].requires_grad_(False)
            self.instance_norm_layer = make_norm(code, conv[0].out_channels)

    @property
    def has_norm(self) -> bool:
        """Whether a norm stands in place of the batch norm."""
        return hasattr(self, "instance_norm_layer")

    def forward(self, x: Tensor) -> Tensor:
        if not self.has_norm:
            return self.layer(x)
        nested = isinstance(self.layer[0], nn.Sequential)
        conv = self.layer[0] if nested else self.layer
        x = self.instance_norm_layer(conv[0](x)).relu()
        return self.layer[1](x) if nested else x


def build(name: str, wt_layer: tuple[int, ...], output_stride: int) -> Backbone:
    """Return ShuffleNetV2; indices 2 and 6 of `wt_layer` replace norms of layer0, layer4, 3..5 end layers."""
    if any(wt_layer[:2]):
        logger.warning("wt_layer's first two codes are ignored: ShuffleNetV2 has no place for them")
    trunk = tv.ShuffleNetV2(list(REPEATS), list(CHANNELS), inverted_residual=InvertedResidual)
    layer0 = ReplacedNorm(nn.Sequential(trunk.conv1, trunk.maxpool), trunk.conv1, wt_layer[2])
    layer4 = ReplacedNorm(trunk.conv5, trunk.conv5, wt_layer[6])
    stages = (trunk.stage2, trunk.stage3, trunk.stage4)
    for stage, dilation in zip(stages[1:], DILATIONS[output_stride], strict=True):
        if dilation > 1:
            dilate(stage, dilation, strided_only=True)
    for stage, code, width in zip(stages, wt_layer[3:6], CHANNELS[1:4], strict=True):
        if code:
            stage[-1].instance_norm_layer = make_norm(code, width)
    return Backbone((layer0, *stages, layer4), CHANNELS, PREFIXES)
