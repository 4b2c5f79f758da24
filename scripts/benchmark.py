"""Measure what parts of the code cost on this machine.

python -m scripts.benchmark data --root data/benchmark
python -m scripts.benchmark eval --arch DeepR50V3PlusD

`data` prints what a training sample costs, one process and one thread, in units of one Pillow decode of the
same image: machines differ, the ratio hardly does. Street-sized images are made from a seed if they are not
there. CPU time is measured, samples and decodes in turn, the decodes in a process of their own: their cost
depends on how much freed memory a process keeps.

`eval` prints what scoring an image costs on this device, with random weights or those of --snapshot, on made
streets or the pictures of --images: first the network alone on whole images in its forms, then the evaluator,
of which "network" is the share of the same windows without resizing, summing and counting.
"agree" is the share of pixels predicted as by the plain network in float32. Small sizes without a GPU.
"""

import argparse
import copy
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from datasets import DATASETS
from datasets.base import sample_rng
from datasets.cache import CachedImages
from datasets.class_uniform import ClassUniform, tile_centroids
from datasets.labels import CITYSCAPES
from network import get_net
from network.folding import PRECISIONS, Folded
from transforms import presets
from utils import checkpoint
from utils.inference import predictions, windows_within
from utils.logging import exit_cleanly
from utils.metrics import count_pixels

SIZES = {"cityscapes": (1024, 2048), "gtav": (1052, 1914)}  # (height, width)
IMAGES = 4
CROP, TILE = 768, 1024
HEAD = f"{'':38}{'images/s':>10}{'s/image':>10}"


def street(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return shapes of many sizes under sensor noise, which compress about as badly as a photograph."""
    values = rng.normal(110, 4, (height, width, 3))
    for cell, strength in ((512, 60), (128, 40), (32, 25), (8, 15)):
        cells = (height // cell + 2, width // cell + 2, 3)
        coarse = rng.normal(0, strength, cells).astype(np.float32)
        for channel in range(3):
            field = Image.fromarray(coarse[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            values[..., channel] += np.asarray(field)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def segments(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return label ids 0..33 in patches with slanted borders."""
    y, x = np.mgrid[:height, :width]
    patch = (y + x // 3) // 150 * 20 + (x + y // 4) // 130
    return Image.fromarray(rng.integers(0, 34, 1000).astype(np.uint8)[patch])


def write_streets(root: Path) -> None:
    """Write IMAGES training pairs of Cityscapes and of GTAV in their layouts and encodings."""
    rng = np.random.default_rng(0)
    palette = [value for row in sorted(CITYSCAPES, key=lambda row: row.id)[1:] for value in row.color]
    for number in range(IMAGES):
        name = f"aachen_{number:06}_000019"
        files = {
            "cityscapes": (
                f"leftImg8bit/train/aachen/{name}_leftImg8bit.png",
                f"gtFine/train/aachen/{name}_gtFine_labelIds.png",
            ),
            "gtav": (f"images/train/folder/{number:05}.png", f"labels/train/folder/{number:05}.png"),
        }
        for domain, paths in files.items():
            image, label = street(rng, *SIZES[domain]), segments(rng, *SIZES[domain])
            if domain == "gtav":
                label.putpalette(palette)
            for picture, path in zip((image, label), paths, strict=True):
                (root / domain / path).parent.mkdir(parents=True, exist_ok=True)
                picture.save(root / domain / path)


def decode(path: Path) -> None:
    """Do what one unit is."""
    with Image.open(path) as image:
        image.convert("RGB")


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def cost(works: list, paths: list[Path], decoder: Executor) -> tuple[float, float]:
    """Return the mean cost of `works` in units and one unit in ms; paths[i] is the image of works[i]."""
    costs = []
    decoder.submit(decode, paths[0]).result()  # the first is slow
    for work, path in zip(works, paths, strict=True):
        costs.append((seconds(work), decoder.submit(seconds, partial(decode, path)).result()))
    work, unit = np.mean(costs, axis=0)
    return work / unit, 1e3 * unit


def measure_samples(dataset, count: int, decoder: Executor) -> tuple[float, float]:
    """Return the cost of `count` samples, in epochs one after the other."""
    works, images = [], []
    for number in range(count):
        epoch, index = divmod(number, len(dataset))
        dataset.set_epoch(epoch)
        images.append(dataset.samples[index].image)
        works.append(partial(dataset.load, dataset.samples[index], sample_rng(0, epoch, index)))
    return cost(works, images, decoder)


def measure_centroids(dataset, count: int, decoder: Executor) -> tuple[float, float]:
    """Return the cost of the class centroids of `count` images, with reading the label."""
    samples = [dataset.samples[i % len(dataset)] for i in range(count)]

    def centroids(path: Path) -> None:
        label, to_train_ids = dataset.read_ids(path)
        tile_centroids(label, TILE, to_train_ids=to_train_ids)

    works = [partial(centroids, sample.label) for sample in samples]
    return cost(works, [sample.image for sample in samples], decoder)


def measure_data(root: Path, count: int) -> None:
    """Print the cost of samples and of class centroids, each over `count` images, for both data sets."""
    torch.set_num_threads(1)
    if not root.exists():
        write_streets(root)
    print(f"{'':44}{'units':>8}{'ms':>9}")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as decoder:
        for name in SIZES:
            measure_domain(name, root / name, count, decoder)


def measure_domain(name: str, root: Path, count: int, decoder: Executor) -> None:
    for device, cached in (("cpu", False), ("gpu", False), ("cpu", True), ("gpu", True)):
        transform = presets.train(CROP, color_aug=0.5, gblur=True, aug_device=device)
        base = DATASETS[name](root, "train", transform)
        with tempfile.TemporaryDirectory() as folder:
            dataset = CachedImages(base, folder) if cached else base
            dataset = ClassUniform(dataset, 0.5, TILE, cache_dir=folder)
            title = f"sample, --aug_device {device}{', cached' * cached}"
            report(name, title, *measure_samples(dataset, count, decoder))
    report(name, "class centroids of an image", *measure_centroids(base, count, decoder))


def report(name: str, title: str, units: float, unit: float) -> None:
    print(f"{name:12}{title:32}{units:8.2f}{units * unit:9.1f}")


class Timing(NamedTuple):
    first: float  # s of the first call
    seconds: float  # of a later one
    memory: float  # GiB at the peak, 0 without a GPU


def timing(work, device: torch.device, at_least: float) -> Timing:
    """Time the first call of `work` and the median of later ones, for `at_least` seconds."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = []
    while len(times) < 2 or sum(times[1:]) < at_least:
        start = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0
    return Timing(times[0], float(np.median(times[1:])), memory)


def eval_images(size: tuple[int, int], count: int, folder: Path | None) -> torch.Tensor:
    """Return normalized images (count, 3, H, W): the first in `folder`, resized, or made ones."""
    rng, (height, width) = np.random.default_rng(0), size
    if folder:
        found = DATASETS["folder"](folder, "val", None)
        paths = [sample.image for sample in found.samples[:count]]
        pictures = [Image.open(path).convert("RGB").resize((width, height)) for path in paths]
    else:
        pictures = [street(rng, height, width) for _ in range(count)]
    return torch.stack([presets.val()(picture, None, None, rng)[0] for picture in pictures])


class Autocast(torch.nn.Module):
    """A network as training's mixed precision runs it."""

    def __init__(self, net, precision: str):
        super().__init__()
        self.net, self.dtype = net, PRECISIONS[precision]

    def forward(self, image):
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net(image)


class Remembering(torch.nn.Module):
    """Remembers the shapes of the batches that a network sees."""

    def __init__(self, net):
        super().__init__()
        self.net, self.shapes = net, []

    def forward(self, image):
        self.shapes.append(image.shape)
        return self.net(image)


def forms(net, precision: str, compiled: bool):
    """Yield (title, network, whether cuDNN searches for its fastest algorithms) of ways to run `net`."""
    yield "plain", Autocast(net, precision), False
    yield (
        "channels_last",
        Autocast(copy.deepcopy(net).to(memory_format=torch.channels_last), precision),
        False,
    )
    yield "folded", Folded(net, precision, epilogues=False), False
    yield "folded, epilogues", Folded(net, precision), False
    yield "folded, epilogues, search", Folded(net, precision), True
    if compiled:
        yield "folded, compiled", torch.compile(Folded(net, precision, epilogues=False)), False


def evaluated(net, loader, device, protocol) -> torch.Tensor:
    """Do what eval.py does with an image, files excepted; return the prediction."""
    for _, _, label, scores in predictions(net, loader, device, **protocol):
        pred = scores.argmax(1)
        count_pixels(label, pred, scores.shape[1])
    return pred


def one_by_one(net, batches: list) -> None:
    for batch in batches:
        net(batch)


def row(title: str, precision: str, images: int, cost: Timing, pred, expected, *more: float) -> None:
    agreement = 100 * (pred == expected).double().mean().item()
    numbers = [f"{images / cost.seconds:10.1f}", *(f"{n:10.4f}" for n in (cost.seconds / images, *more))]
    print(f"{title:28}{precision:10}{''.join(numbers)}{cost.memory:8.2f}{agreement:10.3f}", flush=True)


def failure(title: str, precision: str, error: RuntimeError) -> None:
    print(f"{title:28}{precision:10}  fails: {str(error).splitlines()[0]}", flush=True)


@torch.inference_mode()
def measure_network(net, images: torch.Tensor, compiled: bool, at_least: float) -> None:
    """Print what the forms of `net` cost on all `images` at once, on their device."""
    print(
        f"\nnetwork alone, {len(images)} whole images at once\n{HEAD}{'first s':>10}{'GiB':>8}{'agree %':>10}"
    )
    expected = None
    for precision in PRECISIONS:
        for title, form, search in forms(net, precision, compiled):
            torch.backends.cudnn.benchmark = search
            try:
                cost = timing(partial(form, images), images.device, at_least)
                pred = form(images).logits.argmax(1)
            except RuntimeError as error:
                failure(title, precision, error)
                continue
            expected = pred if expected is None else expected
            row(title, precision, len(images), cost, pred, expected, cost.first)
    torch.backends.cudnn.benchmark = False


@torch.inference_mode()
def measure_evaluator(net, image: torch.Tensor, crop: int, device: torch.device, at_least: float) -> None:
    """Print what image (1, 3, H, W) costs in the evaluator's modes, and the network's share."""
    print(f"\nevaluator, one image, crop {crop}, scales 0.5,1.0,2.0 and mirrored unless whole")
    print(f"{HEAD}{'network':>10}{'GiB':>8}{'agree %':>10}")
    label = torch.zeros(1, *image.shape[-2:], dtype=torch.int64)
    loader = [{"image": image, "label": label.pin_memory() if device.type == "cuda" else label}]
    for mode in ("sliding", "pooling", "whole"):
        protocol, expected = {"mode": mode, "crop": crop}, None
        for precision in PRECISIONS:
            limits = (None, 2**22, 2**23, 2**25) if device.type == "cuda" and mode == "sliding" else (None,)
            for limit in limits:
                title = mode if limit is None else f"{mode}, {limit >> 20} Mpx at once"
                seen = Remembering(Folded(net, precision))
                windows = windows_within(seen, device)
                windows.pixels = limit or windows.pixels
                try:
                    pred = evaluated(windows, loader, device, protocol)
                    shapes, windows.net = seen.shapes, seen.net
                    cost = timing(partial(evaluated, windows, loader, device, protocol), device, at_least)
                    batches = [torch.rand(shape, device=device) for shape in shapes]
                    alone = timing(partial(one_by_one, seen.net, batches), device, at_least)
                except RuntimeError as error:
                    failure(title, precision, error)
                    continue
                expected = pred if expected is None else expected
                row(title, precision, 1, cost, pred, expected, alone.seconds)


def measure_eval(args) -> None:
    """Print both tables; on images of street size if there is a GPU, on small ones otherwise."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    size, crop, batch = ((1024, 2048), 1024, 4) if cuda else ((32, 64), 32, 2)
    net = get_net(args)
    if args.snapshot:
        checkpoint.load_weights(net, checkpoint.load(args.snapshot)["state_dict"])
    net.to(device).eval()
    images = eval_images(size, batch, args.images)
    name = torch.cuda.get_device_name() if cuda else f"CPU with {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {args.arch}, images of {size[0]}x{size[1]} px", flush=True)
    measure_network(net, images.to(device), args.compile, args.seconds)
    measure_evaluator(net, images[:1].pin_memory() if cuda else images[:1], crop, device, args.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["data", "eval"])
    parser.add_argument("--root", type=Path, default=Path("data/benchmark"), help="images, made if missing")
    parser.add_argument("--samples", type=int, default=64, help="per measurement")
    parser.add_argument("--arch", default="DeepR50V3PlusD")
    parser.add_argument("--wt_layer", nargs="*", type=int, default=[0] * 7)
    parser.add_argument("--snapshot", help="weights; random ones agree less, as nothing is certain to them")
    parser.add_argument("--images", type=Path, help="folder of pictures to segment")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    parser.add_argument("--seconds", type=float, default=1, help="of measuring, for each row of eval")
    args = parser.parse_args()
    if args.samples < 1:
        raise ValueError(f"--samples must be at least 1, not {args.samples}")
    args.pretrained = "none"
    if args.what == "data":
        measure_data(args.root, args.samples)
    else:
        measure_eval(args)


if __name__ == "__main__":
    with exit_cleanly():
        main()
