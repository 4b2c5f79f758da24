"""MNASNet (Tan et al., CVPR 2019, arXiv 1807.11626) as five stages, on torchvision's class."""

import logging

from torch import nn
from torchvision.models import mnasnet as tv

from network.backbone import Backbone, cut, dilate
from network.normalization import make_norm

logger = logging.getLogger("robustnet")

ALPHAS = {"mnasnet0_5": 0.5, "mnasnet1_0": 1.0}
CUTS = (0, 8, 10, 12, 14, 17)  # stage i is layers[CUTS[i] : CUTS[i + 1]]
DILATIONS = {16: (1, 2)}  # of layer2 and layer3, whose first blocks have a stride


def build(name: str, wt_layer: tuple[int, ...], output_stride: int) -> Backbone:
    """Return MNASNet `name`; indices 2..6 of `wt_layer` end layer0..layer4."""
    if any(wt_layer[:2]):
        logger.warning("wt_layer's first two codes are ignored: MNASNet has no place for them")
    stages, prefixes = cut(tv.MNASNet(ALPHAS[name]).layers, CUTS, "layers")
    channels = tuple(
        [m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels for stage in stages
    )
    for stage, dilation in zip(stages[2:4], DILATIONS[output_stride], strict=True):
        if dilation > 1:
            dilate(stage, dilation, strided_only=True)
    for stage, code, width in zip(stages, wt_layer[2:], channels, strict=True):
        if code:
            stage.add_module("instance_norm_layer", make_norm(code, width))
    return Backbone(stages, channels, prefixes)
