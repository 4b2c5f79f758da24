"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) as five stages, on torchvision's class."""

from torchvision.models import mobilenetv2 as tv

from network.backbone import Backbone, NormAtEnd, cut, dilate_stages, place_norms, warn_of_unused_codes
from utils.norms import Norm

CUTS = (0, 2, 7, 11, 18, 19)  # stage i is features[CUTS[i] : CUTS[i + 1]]
CHANNELS = (16, 32, 64, 320, 1280)
DILATIONS = {16: (1, 2), 8: (2, 4)}  # of layer2 and layer3, whose first blocks have a stride


class InvertedResidual(NormAtEnd, tv.InvertedResidual):
    """torchvision's block with a place for a norm at its end."""


def build(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return MobileNetV2 with the norms of `wt_layer`: indices 2..5 end layer0..layer3."""
    # NOTE(published): index 6 does nothing, pinned by test_mobilenets_last_position_does_nothing.
    warn_of_unused_codes("MobileNetV2", wt_layer, (0, 1, 6))
    stages, prefixes = cut(tv.MobileNetV2(block=InvertedResidual).features, CUTS, "features")
    dilate_stages(stages[2:4], DILATIONS[output_stride], strided_only=True)
    place_norms(stages[:4], wt_layer[2:6], CHANNELS[:4])
    return Backbone(stages, CHANNELS, prefixes, output_stride)
