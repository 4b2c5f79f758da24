"""Measure in a trained network what whitening is meant to change, and draw its predictions.

The images are photometric twins: an image, and the same image in other colours and blurred, as ISW's
statistics compare them (arXiv 2103.15597, section 3.3). The same images are used for every network.
"""

import argparse
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import config
from datasets import get_dataset_class
from datasets.toy_city import paths
from datasets.views import PhotometricPairs
from network import load
from network.covariance import covariance
from network.instance_whitening import WhiteningMask
from network.segmenter import Segmenter
from network.standardization import standardize
from transforms import presets
from utils import checkpoint
from utils.exit import exit_cleanly
from utils.parser import Parser
from utils.visualize import colorize

STAGES = ("layer0", "layer1", "layer2", "layer3", "layer4")
POSITIONS = STAGES[:3]  # the stages at whose ends the study whitens
TWINS = 16
CLUSTERS = 3  # of the variances, for every network
WIDTH = 192  # px of a small picture


def features(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return the maps (B, C, h, w) after each of STAGES, and the probabilities as "output"."""
    found: dict[str, Tensor] = {}
    stages = {path.split(".")[-1]: module for path, module in net.named_modules()}
    hooks = [
        stages[name].register_forward_hook(lambda _, __, out, name=name: found.setdefault(name, out))
        for name in STAGES
    ]
    try:
        found["output"] = net(image).logits.softmax(1)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name].float() for name in (*STAGES, "output")}


def twins(name: str, data_root: str) -> tuple[Tensor, Tensor]:
    """Return TWINS normalized validation images of a dataset, evenly spread, and their photometric views."""
    kind = get_dataset_class(name)
    base = kind(config.Roots(data_root)(kind), "val", presets.statistics(False))
    base.samples = base.samples[:: max(1, len(base) // TWINS)][:TWINS]
    pairs = PhotometricPairs(base)
    items = [pairs[i] for i in range(len(pairs))]
    originals, views = (torch.stack([item[key] for item in items]) for key in ("image", "view"))
    return originals, views


def distance(views: Tensor, originals: Tensor) -> float:
    """Return how far twins are apart, relative to different images: 0 for equal maps.

    That is the root mean square of the difference of twins, maps (N, C, h, w), divided by that of each
    original and the next one.
    """
    apart = (views - originals).square().mean()
    others = (originals - originals.roll(1, 0)).square().mean()
    return (apart / others).sqrt().item()


def covariances(views: Tensor, originals: Tensor, mask: Tensor | None, keep: bool) -> dict[str, Any]:
    """Describe the covariances of standardized maps (N, C, h, w), pair by pair of channels.

    size: mean |covariance|. change: root mean square change between twins. The most sensitive pairs, all but
    the lowest of CLUSTERS clusters of that change, have the share `sensitive` and the size `sensitive_size`.
    With the `mask` (C, C) of ISW, the same of the pairs it suppresses, and of the rest. `keep` adds each
    pair's size, and the mask, as text.
    """
    maps = standardize(torch.cat((views, originals)))
    after, before = covariance(maps).chunk(2)
    upper = torch.ones_like(before[0]).triu(1).bool()
    size, change = before.abs().mean(0), (after - before).square().mean(0)
    own = WhiteningMask(len(upper), True, 0).to(maps.device)
    own.observe(maps)
    own.finish_trial(CLUSTERS, first=True)
    found: dict[str, Any] = {
        "channels": len(upper),
        "size": mean(size, upper),
        "change": change[upper].mean().sqrt().item(),
        "sensitive": own.num_selected.item() / upper.sum().item(),
        "sensitive_size": mean(size, own.mask),
    }
    if mask is not None:
        chosen = mask.to(upper.device)
        found |= {"masked": chosen.sum().item() / upper.sum().item()}
        found |= {"masked_size": mean(size, chosen), "rest_size": mean(size, upper & ~chosen)}
    if keep:
        found["sizes"] = packed((255 * size[upper]).clamp(max=255).byte().cpu().numpy().tobytes())
        if mask is not None:
            found["mask"] = packed(np.packbits(chosen[upper].cpu().numpy()).tobytes())
    return found


def mean(values: Tensor, where: Tensor) -> float | None:
    """Return the mean of values (C, C) at the True entries of `where`; None without any."""
    return values[where].mean().item() if where.any() else None


def packed(data: bytes) -> str:
    return base64.b85encode(data).decode()


def masks(state: dict[str, Any], stages: list[int]) -> dict[str, Tensor]:
    """Return the masks (C, C) that the checkpoint's ISW suppresses, by the stage at whose end they are."""
    found = state.get("whitening", {})
    return {
        f"layer{stage}": found[f"masks.{i}.mask"]
        for i, stage in enumerate(stages)
        if f"masks.{i}.mask" in found
    }


@torch.no_grad()
def mechanism(args: argparse.Namespace, net: Segmenter, state: dict[str, Any]) -> dict[str, Any]:
    """Return distances of twins by layer and the covariances at POSITIONS."""
    device = next(net.parameters()).device
    originals, views = (images.to(device) for images in twins(args.dataset, args.data_root))
    before, after = features(net, originals), features(net, views)
    codes = net.settings["wt_layer"]
    chosen = masks(state, [i - 2 for i, code in enumerate(codes) if code in (1, 2)]) if 2 in codes else {}
    return {
        "twins": len(originals),
        "distance": {name: distance(after[name], before[name]) for name in before},
        "covariance": {
            name: covariances(after[name], before[name], chosen.get(name), args.keep) for name in POSITIONS
        },
    }


def picture(net: Segmenter, name: str, number: int, data_root: str) -> str:
    """Return the predicted classes of the toy town's validation image `number` as a small PNG, in text."""
    kind = get_dataset_class(name)
    image = config.Roots(data_root)(kind) / paths(name, "val", number)[0]
    pred = colorize(net.segment(image), net.classes.colors)
    size = WIDTH, round(WIDTH * pred.height / pred.width)
    file = io.BytesIO()
    pred.resize(size, Image.Resampling.NEAREST).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--snapshot", required=True, help="checkpoint")
    parser.add_argument("--dataset", required=True, help="whose validation images are the twins")
    parser.add_argument("--data_root", required=True, help="folder of the datasets by name")
    parser.add_argument("--keep", action="store_true", help="also keep each covariance and the masks")
    parser.add_argument(
        "--pictures", nargs="*", default=[], metavar="DATASET:NUMBER", help="images to predict"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write, .json")
    args = parser.parse_args(argv)
    net = load(args.snapshot, device="cuda" if torch.cuda.is_available() else "cpu")
    found = mechanism(args, net, checkpoint.load(args.snapshot))
    shown = [text.split(":") for text in args.pictures]
    found["pictures"] = {
        f"{name}:{number}": picture(net, name, int(number), args.data_root) for name, number in shown
    }
    args.out.write_text(json.dumps(found))


if __name__ == "__main__":
    with exit_cleanly():
        main()
