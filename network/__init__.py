"""Segmentation networks: `load` opens a checkpoint; `get_net` and `get_adaptation` serve the command line.

import network

segmenter = network.load("logs/ckpt/last_gtav.pth")
train_ids = segmenter.segment("photo.png")  # uint8 (H, W)
"""

from argparse import Namespace

from torch import nn

from network.adaptation import NormAdaptation, SelfTraining
from network.archs import ARCHS, find_builder
from network.deepv3 import DeepV3Plus
from network.segmentation import SegOutput, StagedNet
from network.segmenter import Segmenter, load
from utils.classes import CITYSCAPES

__all__ = ["ARCHS", "DeepV3Plus", "SegOutput", "Segmenter", "StagedNet", "get_adaptation", "get_net", "load"]


def get_net(args: Namespace, num_classes: int = len(CITYSCAPES)) -> StagedNet:
    """Build args.arch ("[network.deepv3.]DeepR50V3PlusD") with args.wt_layer and args.pretrained."""
    pretrained = None if args.pretrained == "none" else args.pretrained
    return find_builder(args.arch)(num_classes, args.wt_layer, pretrained)


def get_adaptation(
    args: Namespace, net: nn.Module, num_classes: int = len(CITYSCAPES)
) -> SelfTraining | NormAdaptation | None:
    """Build the adaptation of `net` to args.adapt_dataset in args.sac_phase; None without a target domain."""
    if not args.adapt_dataset:
        return None
    if args.sac_phase == "abn":
        return NormAdaptation()
    return SelfTraining(
        net,
        num_classes,
        views=args.sac_views,
        weight=args.sac_weight,
        momentum=args.sac_teacher_momentum,
        update_every=args.sac_teacher_every,
        conf_upper=args.sac_conf_upper,
        conf_lower=args.sac_conf_lower,
        beta=args.sac_beta,
        prior_momentum=args.sac_prior_momentum,
        focal_power=args.sac_focal_power,
        published_loss=args.sac_published_loss,
    )
