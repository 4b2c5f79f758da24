"""VGG-16 with batch norm (Simonyan and Zisserman, ICLR 2015, arXiv 1409.1556) as five stages.

Batch norm is what the first phase of adaptation changes; the plain VGG-16 has none.
"""

from torch import nn
from torchvision.models import vgg as tv

from network.backbone import Backbone, cut, dilate
from network.segmentation import initialize
from utils.errors import UserError
from utils.norms import Norm

CONFIGURATIONS = {"vgg16_bn": "D"}
CHANNELS = (64, 128, 256, 512, 512)


def build(name: str, wt_layer: tuple[Norm, ...], output_stride: int) -> Backbone:
    """Return the five blocks, each with its pooling, at output stride 32 or 8.

    At 8 the last two poolings are left out and block 5 is dilated by 2. Raises UserError for a norm in
    `wt_layer`.
    """
    if any(wt_layer):
        codes = list(map(int, wt_layer))
        raise UserError(f"VGG-16 has no place for the norms of --wt_layer {codes}; use 0 at all positions")
    features = tv.make_layers(tv.cfgs[CONFIGURATIONS[name]], batch_norm=True)
    initialize(features)
    ends = [i + 1 for i, module in enumerate(features) if isinstance(module, nn.MaxPool2d)]
    stages, prefixes = cut(features, (0, *ends), "features")
    if output_stride == 8:
        stages = *stages[:3], stages[3][:-1], stages[4][:-1]
        dilate(stages[4], 2)
    elif output_stride != 32:
        raise ValueError(f"VGG-16 has output stride 32 or 8, not {output_stride}")
    return Backbone(stages, CHANNELS, prefixes, output_stride)
