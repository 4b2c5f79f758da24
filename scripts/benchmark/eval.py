"""Measure what scoring an image costs.

The first table measures the network on whole images, in all its forms. The second measures the evaluator; its
column "network" is the time of the network on the same windows, without resizing, summing and counting.
"agree" is the share of pixels predicted as in the first row of the table or mode, which is in float32.
Weights are random without --snapshot; images are generated without --images, and small without a GPU.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from datasets import DATASETS
from network import SegOutput, get_net
from network.folding import PRECISIONS, Folded
from network.weights import load_weights
from scripts.benchmark.streets import street
from scripts.benchmark.timing import Timing, timing
from transforms import presets
from utils import checkpoint
from utils.evaluation.inference import WindowBatcher, predictions, window_batcher
from utils.evaluation.metrics import count_pixels
from utils.pixels import grey_levels


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network")
    parser.add_argument("--wt_layer", nargs="*", type=int, default=[0] * 7, help="norm codes of the network")
    parser.add_argument("--snapshot", help="weights; predictions of random weights agree less")
    parser.add_argument("--images", type=Path, help="folder of images to segment")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--seconds", type=float, default=1, help="time to measure each row")
    parser.set_defaults(pretrained="none")


def run(args: argparse.Namespace) -> None:
    """Print both tables: on images of street size with a GPU, on small ones otherwise."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    size, crop, batch = ((1024, 2048), 1024, 4) if cuda else ((32, 64), 32, 2)
    net = get_net(args)
    if args.snapshot:
        load_weights(net, checkpoint.load(args.snapshot)["state_dict"])
    net.to(device).eval()
    images = eval_images(size, batch, args.images)
    name = torch.cuda.get_device_name() if cuda else f"CPU with {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {args.arch}, images of {size[0]}x{size[1]} px", flush=True)
    measure_network(net, images.to(device), args.compile, args.seconds)
    measure_evaluator(net, images[:1], crop, device, args.seconds)


def eval_images(size: tuple[int, int], count: int, folder: Path | None) -> Tensor:
    """Return normalized images (count, 3, H, W): the first in `folder`, resized, or generated streets."""
    rng, (height, width) = np.random.default_rng(0), size
    if folder:
        dataset = DATASETS["folder"](folder, "val", None)
        pixels = [np.asarray(dataset.open_image(sample.image)) for sample in dataset.samples[:count]]
        images = [Image.fromarray(values).resize((width, height)) for values in pixels]
    else:
        images = [street(rng, height, width) for _ in range(count)]
    return torch.stack([presets.val()(image, None, None, rng)[0] for image in images])


class Table:
    """Prints one row per measurement and compares every prediction with `expected`."""

    def __init__(self, title: str, column: str, images: int) -> None:
        """Print the head; `column` is the name of the extra column, `images` their number per call."""
        self.images = images
        self.expected: Tensor | None = None  # the prediction of the first row
        print(f"\n{title}\n{'':38}{'images/s':>10}{'s/image':>10}{column:>10}{'GiB':>8}{'agree %':>10}")

    def row(self, title: str, precision: str, cost: Timing, extra: float, pred: Tensor) -> None:
        if self.expected is None:
            self.expected = pred
        agreement = 100 * (pred == self.expected).double().mean().item()
        rate, seconds = self.images / cost.seconds, cost.seconds / self.images
        numbers = f"{rate:10.1f}{seconds:10.4f}{extra:10.4f}{cost.memory:8.2f}{agreement:10.3f}"
        print(f"{title:28}{precision:10}{numbers}", flush=True)

    def failure(self, title: str, precision: str, error: RuntimeError) -> None:
        print(f"{title:28}{precision:10}  fails: {str(error).splitlines()[0]}", flush=True)


class Autocast(nn.Module):
    """A network as it runs in training with mixed precision."""

    def __init__(self, net: nn.Module, precision: str) -> None:
        super().__init__()
        self.net, self.dtype = net, PRECISIONS[precision]

    def forward(self, image: Tensor) -> SegOutput:
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(image)


def forms(
    net: nn.Module, precision: str, compiled: bool
) -> Iterator[tuple[str, Callable[[Tensor], SegOutput], bool]]:
    """Yield the ways to run `net`: (title, network, whether cuDNN searches for its fastest algorithms)."""
    yield "plain", Autocast(net, precision), False
    channels_last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    yield "channels_last", Autocast(channels_last, precision), False
    yield "folded", Folded(net, precision, epilogues=False), False
    yield "folded, epilogues", Folded(net, precision), False
    yield "folded, epilogues, search", Folded(net, precision), True
    if compiled:
        yield "folded, compiled", torch.compile(Folded(net, precision, epilogues=False)), False


@torch.inference_mode()
def measure_network(net: nn.Module, images: Tensor, compiled: bool, at_least: float) -> None:
    """Print what the forms of `net` cost on all `images` (N, 3, H, W) at once, on their device."""
    table = Table(f"network only, {len(images)} whole images at once", "first s", len(images))
    for precision in PRECISIONS:
        for title, form, search in forms(net, precision, compiled):
            torch.backends.cudnn.benchmark = search
            try:
                cost = timing(partial(form, images), images.device, at_least)
                pred = form(images).logits.argmax(1)
            except RuntimeError as error:
                table.failure(title, precision, error)
                continue
            table.row(title, precision, cost, cost.first, pred)
    torch.backends.cudnn.benchmark = False


class Remembering(nn.Module):
    """Remembers the shapes of the batches that a network sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.shapes: list[torch.Size] = []

    def forward(self, image: Tensor) -> SegOutput:
        self.shapes.append(image.shape)
        return self.net(image)


def loaded(image: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return a normalized image (1, 3, H, W) as eval.py's loader gives it: in bytes, pinned for a GPU."""
    label = torch.zeros(1, *image.shape[-2:], dtype=torch.uint8)
    batch = {"image": grey_levels(image), "label": label}
    return {key: value.pin_memory() for key, value in batch.items()} if device.type == "cuda" else batch


def evaluated(
    net: WindowBatcher, loader: list[dict], device: torch.device, protocol: dict[str, Any]
) -> Tensor:
    """Do the work of eval.py for one image, except for writing files; return the prediction."""
    _, _, label, scores = next(predictions(net, loader, device, **protocol))
    pred = scores.argmax(1)
    count_pixels(label, pred, scores.shape[1])
    return pred


def one_by_one(net: nn.Module, batches: list[Tensor]) -> None:
    for batch in batches:
        net(batch)


@torch.inference_mode()
def measure_evaluator(
    net: nn.Module, image: Tensor, crop: int, device: torch.device, at_least: float
) -> None:
    """Print what image (1, 3, H, W) costs in each mode of the evaluator, and the network's share of that."""
    title = f"evaluator, one image, crop {crop}, scales 0.5,1.0,2.0 and mirrored unless whole"
    table = Table(title, "network", 1)
    loader = [loaded(image, device)]
    for mode in ("sliding", "pooling", "whole"):
        table.expected = None  # each mode has its own first row
        limits = [2**22, 2**23, 2**25] if device.type == "cuda" and mode == "sliding" else []
        for precision in PRECISIONS:
            for limit in (None, *limits):
                title = mode if limit is None else f"{mode}, {limit >> 20} Mpx at once"
                seen = Remembering(Folded(net, precision))
                windows = window_batcher(seen, device)
                windows.pixels = limit or windows.pixels
                work = partial(evaluated, windows, loader, device, {"mode": mode, "crop": crop})
                try:
                    pred = work()
                    windows.net = seen.net
                    cost = timing(work, device, at_least)
                    batches = [torch.rand(shape, device=device) for shape in seen.shapes]
                    network = timing(partial(one_by_one, seen.net, batches), device, at_least)
                except RuntimeError as error:
                    table.failure(title, precision, error)
                    continue
                table.row(title, precision, cost, network.seconds, pred)
