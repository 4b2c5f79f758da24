"""Segmentation networks: `get_net(args)` is the door from the command line."""

from network import deepv3
from network.deepv3 import DeepV3Plus, SegOutput

__all__ = ["ARCHS", "DeepV3Plus", "SegOutput", "get_net"]

ARCHS = {
    name: build for name, build in vars(deepv3).items() if name.startswith("Deep") and name != "DeepV3Plus"
}


def get_net(args) -> DeepV3Plus:
    """Build args.arch ("[network.deepv3.]DeepR50V3PlusD") with args.wt_layer and args.pretrained."""
    name = args.arch.removeprefix("network.deepv3.")
    if name not in ARCHS:
        raise ValueError(f"unknown --arch {args.arch}; known are {', '.join(sorted(ARCHS))}")
    pretrained = None if args.pretrained == "none" else args.pretrained
    return ARCHS[name](wt_layer=tuple(args.wt_layer), pretrained=pretrained)
