"""Measure what the statistics of whitening cost: pairs of an image and its photometric view, in trials.

"published form" jitters with Pillow and blurs with scipy in 4 processes. "in the loaders" augments in
--workers processes, "on the device" leaves them only the decoding. Weights are random. Images are generated
if --root does not exist. The last column is the time of 500 pairs in 10 trials, which is what a run does, at
the speed that was measured.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ColorJitter

from datasets import DATASETS
from datasets.views import PhotometricPairs
from network import get_net
from network.covariance import covariance
from network.instance_whitening import Whitening
from scripts.benchmark.streets import write_streets
from scripts.benchmark.timing import machine
from scripts.benchmark.train import ISW
from transforms import presets
from transforms.pil import to_tensor
from utils.pixels import normalize_
from utils.training.speed import loader_workers

RUN = 500 * 10  # pairs


class Row(NamedTuple):
    """What one row costs."""

    title: str
    pairs_per_second: float
    seconds_of_a_run: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network")
    parser.add_argument("--root", type=Path, default=Path("data/benchmark"), help="folder of images")
    parser.add_argument("--pairs", type=int, default=500, help="pairs of a trial")
    parser.add_argument("--trials", type=int, default=1, help="trials that are measured")
    parser.add_argument("--published_pairs", type=int, default=20, help="pairs of the published form")
    parser.add_argument("--workers", type=int, default=loader_workers(), help="loader processes")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")
    parser.set_defaults(pretrained="none", wt_layer=list(ISW))


def run(args: argparse.Namespace) -> None:
    if not args.root.exists():
        write_streets(args.root)
    rows = measure_statistics(args)
    print(f"{machine()}, {args.arch}, {args.workers} loader processes")
    print(f"{'':24}{'pairs/s':>10}{'500 x 10, s':>14}")
    for row in rows:
        print(f"{row.title:24}{row.pairs_per_second:10.2f}{row.seconds_of_a_run:14.0f}")
    if args.json:
        rows_json = [row._asdict() for row in rows]
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows_json}, indent=1))


def measure_statistics(args: argparse.Namespace) -> list[Row]:
    """Return the rows; `args` are the flags of this benchmark."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    net = get_net(args).to(device).eval()
    root = args.root / "cityscapes"
    plain = Repeated(PublishedPairs(DATASETS["cityscapes"](root, "train", None)), args.published_pairs)
    published = DataLoader(plain, 1, num_workers=min(4, args.workers))
    rows = [timed("published form", args.published_pairs, published_form(net, published, device))]
    for title, aug_device in (("in the loaders", "cpu"), ("on the device", "gpu")):
        preset = presets.statistics(False, aug_device)
        pairs = PhotometricPairs(DATASETS["cityscapes"](root, "train", preset))
        loader = DataLoader(Repeated(pairs, args.pairs), 1, num_workers=args.workers, pin_memory=cuda)
        rows.append(timed(title, args.pairs * args.trials, trials(net, pairs, loader, device, args.trials)))
    return rows


def timed(title: str, count: int, pairs: Iterator[None]) -> Row:
    """Return what `count` pairs cost; the first pair is left out with what starts only once."""
    next(pairs)
    start = time.perf_counter()
    for _ in pairs:
        pass
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    rate = max(1, count - 1) / (time.perf_counter() - start)
    return Row(title, rate, RUN / rate)


@torch.no_grad()
def trials(
    net: Any, pairs: PhotometricPairs, loader: DataLoader, device: torch.device, count: int
) -> Iterator[None]:
    """Do what utils.training.statistics does, pair by pair."""
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0).to(device)
    for _ in range(count):
        for batch in loader:
            whitening.observe(net.whitened_maps(pairs.pair(batch, device)))
            yield
        whitening.finish_trial()


@torch.no_grad()
def published_form(net: Any, loader: DataLoader, device: torch.device) -> Iterator[None]:
    """Pass the two images of each pair through the network and add up the variances of their covariances."""
    sums: dict[int, Tensor] = {}
    for view, original in loader:
        for number, maps in enumerate(net.whitened_maps(torch.cat([view, original]).to(device))):
            one, other = covariance(maps)
            sums[number] = sums.get(number, 0) + (one - other).square() / 2
        yield


class Repeated(Dataset):
    """The items of `base` over and over, `length` in all."""

    def __init__(self, base: Any, length: int) -> None:
        self.base, self.length = base, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if index >= self.length:
            raise IndexError(index)
        return self.base[index % len(self.base)]


class PublishedPairs(Dataset):
    """Pairs with the jitter of torchvision and the blur of scipy, of which the published code is made."""

    def __init__(self, base: Any) -> None:
        self.base, self.jitter = base, ColorJitter(0.8, 0.8, 0.8, 0.3)

    def __len__(self) -> int:
        return len(self.base.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the view and the original, float32 (3, H, W)."""
        with Image.open(self.base.samples[index].image) as opened:
            image = opened.convert("RGB")
        sigma = np.random.default_rng(index).uniform(0.15, 1.30)
        values = np.asarray(self.jitter(image)) / 255
        blurred = np.stack([gaussian_filter(values[..., channel], sigma) for channel in range(3)])
        view = torch.from_numpy((255 * blurred).astype(np.uint8))
        return normalize_(view.float()), normalize_(to_tensor(image).float())
