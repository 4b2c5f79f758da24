"""Describe a network, or export a trained one.

The description has parameters, multiply-adds, the output of each stage, and the norms that were placed:

    python -m network --arch DeepR50V3PlusD --wt_layer 0 0 2 2 2 0 0 --size 768 768
    python -m network --snapshot last_....pth --export onnx net.onnx      # or torchscript net.pt
"""

import logging
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from network import StagedNet, get_net, load
from network.export import FORMATS, export
from network.instance_whitening import InstanceWhitening
from network.normalization import NORMS
from utils.errors import UserError
from utils.norms import CODES, NO_NORMS
from utils.parser import Parser, one_sentence

STAGES = ("layer0", "layer1", "layer2", "layer3", "layer4")


@torch.no_grad()
def describe(net: StagedNet, height: int, width: int) -> str:
    """Return the description as text, from one pass over a blank image."""
    image = torch.zeros(1, 3, height, width)
    net.eval()
    with FlopCounterMode(display=False) as counter:
        net(image)
    parameters, multiply_adds = sum(p.numel() for p in net.parameters()), counter.get_total_flops() / 2
    lines = [f"{parameters / 1e6:.2f} M parameters, {multiply_adds / 1e9:.2f} G multiply-adds of one image"]
    x = image
    for name in STAGES:
        x = getattr(net, name)(x)
        _, channels, h, w = x.shape
        lines.append(f"{name}  {channels:5d} channels, {h} x {w} (1/{round(height / h)})")
    placed = tuple(type(make(1)) for make in NORMS.values())
    for name, module in net.named_modules():
        if isinstance(module, placed):
            whitened = "; its covariance enters the loss" if isinstance(module, InstanceWhitening) else ""
            lines.append(f"{name}: {module}{whitened}")
    return "\n".join(lines)


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="name of the network, as for train.py")
    parser.add_argument(
        "--wt_layer", nargs="*", type=int, default=list(map(int, NO_NORMS)), help=f"seven codes: {CODES}"
    )
    parser.add_argument(
        "--size", nargs=2, type=int, default=[768, 768], metavar=("H", "W"), help="of the image, px"
    )
    parser.add_argument(
        "--pretrained", default="none", help="imagenet, a file or a run's folder; reports which weights fit"
    )
    parser.add_argument("--snapshot", help="trained checkpoint to export, or a run's folder")
    parser.add_argument(
        "--export", nargs=2, metavar=("FORMAT", "FILE"), help=f"write --snapshot as {' or '.join(FORMATS)}"
    )
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with one_sentence():
        args = parser.parse_args()
        if bool(args.export) != bool(args.snapshot):
            raise UserError("--export FORMAT FILE writes the network of --snapshot; give both")
        if args.export:
            kind, file = args.export
            export(load(args.snapshot), file, kind)
            print(f"{args.snapshot} written to {file} as {kind}")
            return
        if min(args.size) < 1:
            raise UserError(f"--size needs a height and a width of at least 1 px, not {args.size}")
        print(describe(get_net(args), *args.size))


if __name__ == "__main__":
    main()
