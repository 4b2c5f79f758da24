"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) as five stages, on torchvision's class."""

import logging

from torchvision.models import mobilenetv2 as tv

from network.backbone import Backbone, NormAtEnd, cut, dilate
from network.normalization import make_norm

logger = logging.getLogger("robustnet")

CUTS = (0, 2, 7, 11, 18, 19)  # stage i is features[CUTS[i] : CUTS[i + 1]]
CHANNELS = (16, 32, 64, 320, 1280)
DILATIONS = {16: (1, 2), 8: (2, 4)}  # of layer2 and layer3, whose first blocks have a stride


class InvertedResidual(NormAtEnd, tv.InvertedResidual):
    """torchvision's block with a place for a norm at its end."""


def build(name: str, wt_layer: tuple[int, ...], output_stride: int) -> Backbone:
    """Return MobileNetV2; indices 2..5 of `wt_layer` end layer0..layer3, the others have no place."""
    # NOTE(published): index 6 does nothing here, as published; see test_codes_without_a_place_warn.
    if any((*wt_layer[:2], wt_layer[6])):
        logger.warning("wt_layer's first two codes and its last are ignored: MobileNetV2 has no place")
    stages, prefixes = cut(tv.MobileNetV2(block=InvertedResidual).features, CUTS, "features")
    for stage, dilation in zip(stages[2:4], DILATIONS[output_stride], strict=True):
        if dilation > 1:
            dilate(stage, dilation, strided_only=True)
    for stage, code, width in zip(stages[:4], wt_layer[2:6], CHANNELS[:4], strict=True):
        if code:
            stage[-1].instance_norm_layer = make_norm(code, width)
    return Backbone(stages, CHANNELS, prefixes)
