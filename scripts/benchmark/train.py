"""Measure what a training step costs: forward pass, losses, backward pass and SGD on crops on the device.

Each row is one choice of the flags of speed. "loss" is the loss of the first step, which all rows share up to
rounding and dropout. The first step of a compiled row takes a minute or two. Weights, images and
whitening masks are random. --json writes the rows with the machine and the versions.
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import config
from loss import HeadLosses, MainLoss
from network import get_net
from network.instance_whitening import Whitening
from optimizer import get_optimizer
from utils.errors import UserError
from utils.training import Trainer

ROWS: dict[str, dict[str, Any]] = {
    "default": {},
    "channels_last": {"channels_last": True},
    "cuda_graph": {"cuda_graph": True},
    "amp": {"amp": "bf16"},
    "amp, channels_last": {"amp": "bf16", "channels_last": True},
    "amp, channels_last, cuda_graph": {"amp": "bf16", "channels_last": True, "cuda_graph": True},
    "fast": {"amp": "bf16", "channels_last": True, "compile": True, "cuda_graph": True},
}
WARM_UP = 7  # steps; a step is captured in the fourth
SELECTED = 0.02  # share of the covariances in the masks


class Row(NamedTuple):
    """What one row costs."""

    title: str
    images_per_second: float
    ms_per_step: float
    gib: float  # of GPU memory at the peak
    first_seconds: float  # of the first step, with its compilation
    loss: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="DeepR50V3PlusD", help="network")
    parser.add_argument("--wt_layer", nargs="*", type=int, default=[0, 0, 2, 2, 2, 0, 0], help="norm codes")
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--crop_size", type=int, help="px; 768 on a GPU and 64 otherwise")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), help="rows to measure; all that can run")
    parser.add_argument("--seconds", type=float, default=3, help="time to measure each row")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    crop = args.crop_size or (768 if cuda else 64)
    if args.batch < 2:
        raise UserError(f"--batch must be at least 2, not {args.batch}: batch norm needs two images")
    possible = [name for name, parts in ROWS.items() if cuda or not {"cuda_graph", "compile"} & set(parts)]
    machine = torch.cuda.get_device_name() if cuda else f"CPU with {torch.get_num_threads()} threads"
    title = f"{machine}, torch {torch.__version__}, {args.arch}, wt_layer {args.wt_layer}"
    print(f"{title}, {args.batch} images of {crop} px", flush=True)
    print(f"{'':34}{'images/s':>10}{'ms/step':>10}{'GiB':>8}{'first s':>9}{'loss':>9}")
    rows = []
    for name in args.rows or possible:
        row = measure(name, args.arch, args.wt_layer, args.batch, crop, device, args.seconds)
        numbers = f"{row.images_per_second:10.1f}{row.ms_per_step:10.2f}{row.gib:8.2f}"
        print(f"{name:34}{numbers}{row.first_seconds:9.1f}{row.loss:9.4f}", flush=True)
        rows.append(row._asdict())
    if args.json:
        facts = {"machine": machine, "torch": torch.__version__, "arch": args.arch}
        facts |= {"wt_layer": args.wt_layer, "batch": args.batch, "crop_size": crop}
        args.json.write_text(json.dumps(facts | {"rows": rows}, indent=1))


def measure(
    name: str, arch: str, wt_layer: list[int], batch: int, crop: int, device: torch.device, seconds: float
) -> Row:
    """Return what steps with the flags of one row cost."""
    torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(arch, wt_layer, batch, device, ROWS[name])
    images = make_batch(batch, crop, device)
    times = []
    while len(times) < WARM_UP + 2 or sum(times[WARM_UP:]) < seconds:
        start = time.perf_counter()
        for _ in range(1 if len(times) < WARM_UP else 5):
            trainer.step(images)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if len(times) == 1:
            loss = trainer.means.take()[0]["train"]
    step = sorted(times[WARM_UP:])[len(times[WARM_UP:]) // 2] / 5
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
    return Row(name, batch / step, 1e3 * step, memory, times[0], loss)


def make_trainer(
    arch: str, wt_layer: list[int], batch: int, device: torch.device, parts: dict[str, Any]
) -> Trainer:
    """Return a trainer without data, of random weights and masks."""
    torch.manual_seed(0)
    flags = ["--arch", arch, "--pretrained", "none", "--wt_layer", *map(str, wt_layer)]
    args = config.parse_train_args(flags)
    net = get_net(args).to(device).train()
    if parts.get("channels_last"):
        net.to(memory_format=torch.channels_last)
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0)
    whitening.trials = 1
    for mask in whitening.masks:
        mask.mask.copy_(torch.rand(mask.mask.shape).triu(1) > 1 - SELECTED)
        mask.num_selected.copy_(mask.mask.sum())
    sampler = SimpleNamespace(advance=lambda count: None)
    train = SimpleNamespace(sampler=sampler, batch_size=batch)
    loaders: Any = SimpleNamespace(train=train, photometric=None, steps_per_batch=1)
    losses = HeadLosses(MainLoss()).to(device)
    settings = {"wt_reg_weight": 0.6} | parts
    return Trainer(net, losses, whitening.to(device), *get_optimizer(args, net), loaders, settings)


def make_batch(batch: int, crop: int, device: torch.device) -> dict[str, Tensor]:
    """Return random images, and labels of patches of 16 px."""
    image, label = torch.randn(batch, 3, crop, crop), torch.randint(0, 19, (batch, crop // 16, crop // 16))
    label = label.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return {"image": image.to(device), "label": label.to(device)}
