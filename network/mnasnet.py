"""MNASNet (Tan et al., CVPR 2019, arXiv 1807.11626) as five stages, on torchvision's class."""

from torch import nn
from torchvision.models import mnasnet as tv

from network.backbone import Backbone, cut, dilate_stages, place_norms, warn_of_unused_codes
from utils.norms import Norm

ALPHAS = {"mnasnet0_5": 0.5, "mnasnet1_0": 1.0}
CUTS = (0, 8, 10, 12, 14, 17)  # stage i is layers[CUTS[i] : CUTS[i + 1]]
DILATIONS = {16: (1, 2)}  # of layer2 and layer3, whose first blocks have a stride


def build(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return MNASNet `name` with the norms of `wt_layer`: indices 2..6 end layer0..layer4."""
    warn_of_unused_codes("MNASNet", wt_layer, (0, 1))
    stages, prefixes = cut(tv.MNASNet(ALPHAS[name]).layers, CUTS, "layers")
    channels = tuple(
        [m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels for stage in stages
    )
    dilate_stages(stages[2:4], DILATIONS[output_stride], strided_only=True)
    place_norms(stages, wt_layer[2:], channels)
    return Backbone(stages, channels, prefixes, output_stride)
