"""ShuffleNetV2 x1.0 (Ma et al., ECCV 2018, arXiv 1807.11164) as five stages, on torchvision's class."""

from torch import Tensor, nn
from torchvision.models import shufflenetv2 as tv

from network.backbone import Backbone, NormAtEnd, dilate_stages, place_norms, warn_of_unused_codes
from network.normalization import make_norm
from utils.norms import Norm

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
    """torchvision's block with a place for a norm after the channel shuffle."""


class ReplacedNorm(nn.Module):
    """Convolution, the norm of `code` in place of batch norm, ReLU, and the layers after these.

    NOTE(published): the replaced batch norm stays in the state_dict without being used, pinned by
    test_state_dict_entries_are_the_published_ones. Here it is not trained.
    """

    def __init__(self, layer: nn.Sequential, conv: nn.Sequential, code: Norm, channels: int) -> None:
        super().__init__()
        self.layer = layer  # `conv` itself, or a sequence that begins with it
        if code:
            conv[1].requires_grad_(False)
            self.instance_norm_layer = make_norm(code, channels)

    @property
    def has_norm(self) -> bool:
        """Whether another norm replaces the batch norm."""
        return hasattr(self, "instance_norm_layer")

    def forward(self, x: Tensor) -> Tensor:
        if not self.has_norm:
            return self.layer(x)
        first = self.layer[0]
        if not isinstance(first, nn.Sequential):
            return self.instance_norm_layer(first(x)).relu()
        return self.layer[1](self.instance_norm_layer(first[0](x)).relu())


def build(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return ShuffleNetV2 with the norms of `wt_layer`.

    Indices 2 and 6 replace the batch norms of layer0 and layer4; 3..5 end layer1..layer3.
    """
    warn_of_unused_codes("ShuffleNetV2", wt_layer, (0, 1))
    trunk = tv.ShuffleNetV2(list(REPEATS), list(CHANNELS), inverted_residual=InvertedResidual)
    stem = nn.Sequential(trunk.conv1, trunk.maxpool)
    layer0 = ReplacedNorm(stem, trunk.conv1, wt_layer[2], CHANNELS[0])
    layer4 = ReplacedNorm(trunk.conv5, trunk.conv5, wt_layer[6], CHANNELS[4])
    stages = (trunk.stage2, trunk.stage3, trunk.stage4)
    dilate_stages(stages[1:], DILATIONS[output_stride], strided_only=True)
    place_norms(stages, wt_layer[3:6], CHANNELS[1:4])
    return Backbone((layer0, *stages, layer4), CHANNELS, PREFIXES, output_stride)
