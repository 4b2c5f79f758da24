"""The names of --arch: one table, and the one function that builds a network from a line of it."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from network import deepv3
from network.backbone import Backbone
from network.deepv2 import DeepLabV2, DeepLabV2FC
from network.deepv3 import DeepV3Plus
from network.fcn8s import FCN8s
from network.normalization import check_codes
from network.pretrained import load_pretrained
from network.segmentation import StagedNet
from utils.classes import CITYSCAPES
from utils.errors import UserError, suggestion
from utils.norms import NO_NORMS, Norm

PREFIX = "network.deepv3."  # of every name in published commands

Family = Callable[[str, tuple[Norm, ...], int], Backbone]
Head = Callable[[Backbone, int], StagedNet]
Builder = Callable[..., StagedNet]  # (num_classes=19, wt_layer=(0,) * 7, pretrained=None)


def find_family(name: str) -> Family:
    """Return the function "file.function" of this folder.

    Its file is imported here: torchvision, on which it builds, takes as long to import as torch.
    """
    file, _, function = name.partition(".")
    return getattr(import_module(f"network.{file}"), function)


def builder(head: Head, family: str, name: str, output_stride: int) -> Builder:
    """Return the function that builds `head` on the backbone `name` of `family` ("file.function").

    `name` is also torchvision's name of the ImageNet weights.
    """

    def build(
        num_classes: int = len(CITYSCAPES), wt_layer: Sequence[int] = NO_NORMS, pretrained: str | None = None
    ) -> StagedNet:
        """Build the network; `pretrained` is "imagenet", a file of weights, or None."""
        backbone = find_family(family)(name, check_codes(wt_layer), output_stride)
        net = head(backbone, num_classes)
        if pretrained:
            load_pretrained(net, name, pretrained, backbone)
        return net

    return build


ARCHS: dict[str, Builder] = {
    "DeepR18V3PlusD": builder(DeepV3Plus, "resnet.build", "resnet18", 32),
    "DeepR50V3PlusD": builder(DeepV3Plus, "resnet.build", "resnet50", 16),
    "DeepR50V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "resnet50", 8),
    "DeepR101V3PlusD": builder(DeepV3Plus, "resnet.build", "resnet101_deep_stem", 16),
    "DeepR101V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "resnet101_deep_stem", 8),
    "DeepR152V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "resnet152", 8),
    "DeepResNext50V3PlusD": builder(DeepV3Plus, "resnet.build", "resnext50_32x4d", 16),
    "DeepResNext101V3PlusD": builder(DeepV3Plus, "resnet.build", "resnext101_32x8d", 16),
    "DeepResNext101V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "resnext101_32x8d", 8),
    "DeepResNext101V3PlusD_OS4": builder(DeepV3Plus, "resnet.build", "resnext101_32x8d", 4),
    "DeepWideResNet50V3PlusD": builder(DeepV3Plus, "resnet.build", "wide_resnet50_2", 16),
    "DeepWideResNet50V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "wide_resnet50_2", 8),
    "DeepWideResNet101V3PlusD": builder(DeepV3Plus, "resnet.build", "wide_resnet101_2", 16),
    "DeepWideResNet101V3PlusD_OS8": builder(DeepV3Plus, "resnet.build", "wide_resnet101_2", 8),
    "DeepShuffleNetV3PlusD": builder(DeepV3Plus, "shufflenet.build", "shufflenet_v2_x1_0", 16),
    "DeepShuffleNetV3PlusD_OS8": builder(DeepV3Plus, "shufflenet.build", "shufflenet_v2_x1_0", 8),
    "DeepShuffleNetV3PlusD_OS32": builder(DeepV3Plus, "shufflenet.build", "shufflenet_v2_x1_0", 32),
    "DeepMobileNetV3PlusD": builder(DeepV3Plus, "mobilenet.build", "mobilenet_v2", 16),
    "DeepMobileNetV3PlusD_OS8": builder(DeepV3Plus, "mobilenet.build", "mobilenet_v2", 8),
    "DeepMNASNet05V3PlusD": builder(DeepV3Plus, "mnasnet.build", "mnasnet0_5", 16),
    "DeepMNASNet10V3PlusD": builder(DeepV3Plus, "mnasnet.build", "mnasnet1_0", 16),
    "DeepR101V2": builder(DeepLabV2, "resnet.build_strided_conv1", "resnet101", 8),
    "DeepVGG16V2": builder(DeepLabV2FC, "vgg.build", "vgg16_bn", 8),
    "VGG16FCN8s": builder(FCN8s, "vgg.build", "vgg16_bn", 32),
}

# Networks that computed something else in checkpoints of version 1.
REBUILT = ("DeepR101V2", "DeepVGG16V2", "VGG16FCN8s")

# Callers of the published code import the builders from network.deepv3, as network.deepv3.DeepR50V3PlusD.
vars(deepv3).update(ARCHS)


def find_builder(arch: str) -> Builder:
    """Return the builder of an --arch, "[network.deepv3.]DeepR50V3PlusD"; UserError for an unknown name."""
    name = arch.removeprefix(PREFIX)
    if name not in ARCHS:
        meant = suggestion(name, ARCHS)
        raise UserError(f"unknown --arch {arch}{meant or '; known are ' + ', '.join(sorted(ARCHS))}")
    return ARCHS[name]


def check_version(arch: str, state: Mapping[str, Any], snapshot: str | Path) -> None:
    """Raise UserError for a checkpoint of an earlier form of `arch`, whose weights mean other things."""
    name = arch.removeprefix(PREFIX)
    if name in REBUILT and state.get("version", 2) < 2:
        raise UserError(
            f"{snapshot} was written when {name} was not yet the published network (strides, poolings and "
            "fully connected layers differ); train it again, or use it with the version of this code that "
            "wrote it"
        )
