"""ImageNet weights of the backbone: where they come from and how their entries are named here."""

import logging
import os
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn
from torchvision import models

logger = logging.getLogger("robustnet")

# The weights torchvision had in 2021; the later recipe (V2) would not be the published setting.
RECIPE = "IMAGENET1K_V1"
# Usual name -> ours; with a deep stem conv1 is the sequence of all but its last norm.
STEM = {"conv1.": "layer0.0.", "bn1.": "layer0.1."}
DEEP_STEM = {"conv1.": "layer0.", "bn1.": "layer0.7."}
# VGG-16's features, cut behind each pooling, and its fully connected layers, which are convolutions here
VGG_CUTS = (0, 7, 14, 24, 34, 44)
VGG = {
    f"features.{number}.": f"layer{stage}.{number - first}."
    for stage, (first, end) in enumerate(pairwise(VGG_CUTS))
    for number in range(first, end)
} | {"classifier.0.": "fc6.", "classifier.3.": "fc7."}


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """Return torchvision's weights of `name`, downloaded once into torch.hub's folder.

    Raises FileNotFoundError when they are neither there nor within reach.
    """
    if name.endswith("deep_stem"):
        raise ValueError(
            "no ImageNet weights are published for a ResNet-101 with three 3x3 stem convolutions; name a "
            "file with --pretrained PATH or start from random weights with --pretrained none"
        )
    weights = models.get_model_weights(name)[RECIPE]
    try:
        return weights.get_state_dict(check_hash=True)
    except OSError as error:
        file = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
        raise FileNotFoundError(
            f"ImageNet weights {file} are missing and cannot be downloaded ({error}); put the file "
            "there, name another with --pretrained PATH, or start from random weights with "
            "--pretrained none"
        ) from error


def file_state(path: str) -> dict[str, torch.Tensor]:
    """Return the weights in `path`, a state dict or a checkpoint, without `module.` prefixes."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"--pretrained {path}: no such file (imagenet, none, or the path of a state dict)"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        text = f"--pretrained {path} holds no weights that can be read safely ({type(error).__name__})"
        raise ValueError(text) from error
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_pretrained(net: nn.Module, name: str, source: str) -> None:
    """Fill what fits of `net` from `source` ("imagenet" or a file); log what was loaded and what was not."""
    state = imagenet_state(name) if source == "imagenet" else file_state(source)
    renamed = VGG if name.startswith("vgg") else DEEP_STEM if name.endswith("deep_stem") else STEM
    for old, new in renamed.items():
        state = {
            new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in state.items()
        }
    own = net.state_dict()
    for key in {"fc6.weight", "fc7.weight"} & own.keys() & state.keys():
        if state[key].numel() == own[key].numel():
            state[key] = state[key].view_as(own[key])
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise ValueError(f"--pretrained {source}: none of its {len(state)} entries fits this network")
    net.load_state_dict(fitting, strict=False)
    missing = [key for key in own if key not in fitting and not key.endswith("num_batches_tracked")]
    logger.info(
        "pretrained %s: %d entries loaded, %d left random: %s",
        source,
        len(fitting),
        len(missing),
        ", ".join(sorted({key.split(".")[0] for key in missing})),
    )
