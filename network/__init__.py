"""Segmentation networks: `get_net` and `get_adaptation` are the doors from the command line."""

from network import deepv2, deepv3, vgg
from network.deepv3 import DeepV3Plus, SegOutput, StagedNet
from network.mean_teacher import NormAdaptation, SelfTraining, freeze_batch_norm

__all__ = ["ARCHS", "DeepV3Plus", "SegOutput", "get_adaptation", "get_net"]

V3 = {name: build for name, build in vars(deepv3).items() if name.startswith("Deep") and name != "DeepV3Plus"}
ARCHS = V3 | {
    "DeepR101V2": deepv2.DeepR101V2,
    "DeepVGG16V2": deepv2.DeepVGG16V2,
    "VGG16FCN8s": vgg.VGG16FCN8s,
}


def get_net(args) -> StagedNet:
    """Build args.arch ("[network.deepv3.]DeepR50V3PlusD") with args.wt_layer and args.pretrained."""
    name = args.arch.removeprefix("network.deepv3.")
    if name not in ARCHS:
        raise ValueError(f"unknown --arch {args.arch}; known are {', '.join(sorted(ARCHS))}")
    pretrained = None if args.pretrained == "none" else args.pretrained
    return ARCHS[name](wt_layer=tuple(args.wt_layer), pretrained=pretrained)


def get_adaptation(args, net) -> SelfTraining | NormAdaptation | None:
    """Build what adapts `net` to args.adapt_dataset, if any, in args.sac_phase; "sac" freezes its norms."""
    if not args.adapt_dataset:
        return None
    if args.sac_phase == "abn":
        return NormAdaptation()
    freeze_batch_norm(net)
    return SelfTraining(
        net,
        views=args.sac_views,
        weight=args.sac_weight,
        update_every=args.sac_teacher_every,
        published_loss=args.sac_published_loss,
    )
