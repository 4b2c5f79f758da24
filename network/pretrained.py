"""ImageNet weights of the backbone: where they come from, and their names here."""

import logging
import os
from pathlib import Path

import torch
from torch import nn

from network.backbone import Backbone
from network.weights import without_prefix
from utils import checkpoint, torch_files
from utils.errors import DamagedFile, MissingFile, UserError

logger = logging.getLogger("robustnet")

# The weights of the published runs; torchvision's later recipe (V2) gives others.
RECIPE = "IMAGENET1K_V1"


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """Return torchvision's weights of `name`, downloaded once into torch.hub's folder.

    Raises MissingFile when they are not there and cannot be downloaded, DamagedFile when they do not fit the
    hash in their name, UserError when none are published.
    """
    if name.endswith("deep_stem"):
        raise UserError(
            "torchvision has no ImageNet weights of a ResNet-101 with three 3x3 stem convolutions; name the "
            "published file, which network/README.md describes, with --pretrained PATH, or start from random "
            "weights with --pretrained none"
        )
    from torchvision import models  # here, because it takes seconds; see archs.py

    weights = models.get_model_weights(name)[RECIPE]
    file = Path(torch.hub.get_dir(), "checkpoints", os.path.basename(weights.url))
    if not file.is_file():
        hash_in_name = file.stem.rpartition("-")[2]
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(file), hash_in_name)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError for another hash
            raise MissingFile(
                f"ImageNet weights {file} are missing and cannot be downloaded ({error}); put the file "
                "there, name another with --pretrained PATH, or start from random weights with "
                "--pretrained none"
            ) from error
    try:
        return torch_files.read(file, "file of ImageNet weights")
    except DamagedFile as error:
        raise DamagedFile(f"{error}; delete it, then it is downloaded again") from error


def file_state(path: str) -> dict[str, torch.Tensor]:
    """Return the weights in `path`, a state dict or a checkpoint, without `module.` prefixes.

    Of a folder, the newest sound checkpoint is read.
    """
    state = torch_files.read(checkpoint.find(path), "--pretrained file")
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"--pretrained {path} holds no weights: expected a state dict or a checkpoint")
    return without_prefix(state)


def renamed(key: str, prefixes: dict[str, str]) -> str:
    """Return `key` with its beginning replaced, if that is one of `prefixes`."""
    return next((new + key.removeprefix(old) for old, new in prefixes.items() if key.startswith(old)), key)


def load_pretrained(net: nn.Module, name: str, source: str, backbone: Backbone) -> None:
    """Fill `net` with the entries of `source` ("imagenet" or a file) that fit, and log the others.

    `backbone` knows the names in such files. Raises UserError when nothing fits.
    """
    state = imagenet_state(name) if source == "imagenet" else file_state(source)
    prefixes = next((p for key, p in backbone.variants.items() if key in state), backbone.prefixes)
    state = {renamed(key, prefixes): value for key, value in state.items()}
    own = net.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    if not fitting:
        raise UserError(f"--pretrained {source}: none of its {len(state)} entries fits this network")
    net.load_state_dict(fitting, strict=False)
    left_out = {
        "left random": [k for k in own if k not in fitting and not k.endswith("num_batches_tracked")],
        "of another shape": [key for key in state if key in own and key not in fitting],
        "not of this network": [key for key in state if key not in own],
    }
    report = [f"{len(fitting)} entries loaded"]
    for kind, keys in left_out.items():
        if keys:
            report.append(f"{len(keys)} {kind}: {', '.join(sorted({key.split('.')[0] for key in keys}))}")
    logger.info("pretrained %s: %s", source, "; ".join(report))
