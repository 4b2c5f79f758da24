"""A trained network that segments images: five lines of Python from a checkpoint to train ids."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from network.archs import PREFIX, check_version, find_builder
from network.segmentation import SegOutput, StagedNet
from network.weights import LoadReport, load_weights, without_prefix
from utils import checkpoint
from utils.classes import CITYSCAPES, ClassTable
from utils.errors import UserError
from utils.files import printable
from utils.images import damage_names, to_rgb, upright, user_errors_name
from utils.norms import NO_NORMS
from utils.pixels import normalize_
from utils.settings import recorded

logger = logging.getLogger("robustnet")


class Segmenter(nn.Module):
    """A network for inference, with what its checkpoint says of its classes and its input.

    `image_in`: each image is normalized by its own mean and std, not by ImageNet's. `settings`: of the
    training run. `report`: which entries of the checkpoint fit the network.
    """

    def __init__(
        self, net: nn.Module, classes: ClassTable, image_in: bool, settings: dict, report: LoadReport
    ) -> None:
        super().__init__()
        self.net = net
        self.classes, self.image_in, self.settings, self.report = classes, image_in, settings, report
        self.eval()

    def forward(self, image: Tensor) -> SegOutput:
        """Segment a normalized image (B, 3, H, W)."""
        return self.net(image)

    @torch.inference_mode()
    def segment(self, image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
        """Return the train ids, uint8 (H, W), of an image: a file, a PIL image, or uint8 RGB (H, W, 3).

        The whole image passes through the network once. Raises MissingFile or UserError for a file that is
        not there or not an image.
        """
        pixels = torch.from_numpy(rgb_values(image)).permute(2, 0, 1).float()
        normalized = normalize_(pixels, self.image_in).to(next(self.net.parameters()).device)
        return self(normalized[None]).logits[0].argmax(0).byte().cpu().numpy()


def rgb_values(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """Return the grey levels, uint8 (H, W, 3), of a file, a PIL image or such an array.

    Files and PIL images are turned by their EXIF orientation, as viewers show them.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an image is uint8 (H, W, 3), not {image.dtype} {image.shape}")
        return image.copy()
    if isinstance(image, Image.Image):
        return np.array(to_rgb(upright(image)))
    file = f"image {printable(image)}"
    with damage_names(file), Image.open(image) as opened:
        pixels = upright(opened)
    with user_errors_name(file):
        return np.array(to_rgb(pixels))


def load(
    snapshot: str | Path,
    *,
    arch: str | None = None,
    wt_layer: Sequence[int] | None = None,
    classes: ClassTable | None = None,
    precision: str = "float32",
    device: str | torch.device = "cpu",
) -> Segmenter:
    """Return the network of a checkpoint, ready for inference on `device`.

    The checkpoint records `arch`, `wt_layer` and `classes`; name them for one that does not, as a published
    one. `precision` is that of the convolutions, "float32" or "bf16". Raises MissingFile for a missing file,
    and UserError for a file that is not a checkpoint, for arguments that contradict its record, for an
    unknown or an earlier form of `arch`, and for weights that do not fit.
    """
    from network.folding import Folded  # here, because it imports torchvision; see archs.py

    state = checkpoint.load(snapshot)
    settings = recorded(state)
    arch = chosen("arch", _short(arch), _short(settings.get("arch")), snapshot)
    if arch is None:
        raise UserError(f"{snapshot} does not record its network; name it with --arch")
    check_version(arch, state, snapshot)
    known = settings.get("wt_layer")
    codes = chosen("wt_layer", _listed(wt_layer), _listed(known), snapshot)
    if codes is None:
        codes = _listed(NO_NORMS)
        if not settings:  # IW, ISW and IN have no weights: a wrong choice of these loads without an error
            logger.warning("%s does not record --wt_layer; %s is assumed", snapshot, codes)
    table = _chosen_classes(classes, settings.get("classes"), snapshot)
    net = find_builder(arch)(len(table), codes)
    _check_head(net, without_prefix(state["state_dict"]), table, snapshot)
    report = load_weights(net, state["state_dict"])
    settings |= {"arch": arch, "wt_layer": codes, "classes": table.to_dict()}
    return Segmenter(
        Folded(net.to(device), precision), table, bool(settings.get("image_in")), settings, report
    )


def chosen(name: str, given: Any, known: Any, snapshot: str | Path) -> Any:
    """Return what is given, else what the checkpoint records; UserError where the two differ."""
    if given is not None and known is not None and given != known:
        raise UserError(f"{snapshot} was trained with --{name} {known}, not {given}")
    return known if given is None else given


def _short(arch: str | None) -> str | None:
    return arch and arch.removeprefix(PREFIX)


def _listed(codes: Sequence[int] | None) -> list[int] | None:
    return None if codes is None else [int(code) for code in codes]


def _chosen_classes(given: ClassTable | None, columns: dict | None, snapshot: str | Path) -> ClassTable:
    """Return the given class table, else the recorded one, else Cityscapes'; names must not contradict."""
    known = None if columns is None else ClassTable.from_dict(columns)
    if given is not None and known is not None and given.names != known.names:
        raise UserError(
            f"{snapshot} was trained on the classes {', '.join(known.names)}, not {', '.join(given.names)}"
        )
    return given or known or CITYSCAPES


def _check_head(
    net: StagedNet, weights: dict[str, Tensor], classes: ClassTable, snapshot: str | Path
) -> None:
    """Raise UserError if the weights' classifier scores another number of classes than there are."""
    head = net.classifiers[0]
    for key in net.state_dict():
        if key.startswith(f"{head}.") and key in weights and len(weights[key]) != len(classes):
            raise UserError(
                f"{snapshot} scores {len(weights[key])} classes, but the class table has {len(classes)}"
            )
