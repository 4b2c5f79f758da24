"""Measure what a training step costs: forward pass, losses, backward pass and SGD on crops on the device.

Each row is one choice of the flags of speed. "loss" is the loss of the first step, which all rows share up to
rounding and dropout. The first step of a compiled row takes a minute or two. Weights, images and
whitening masks are random. --json writes the rows with the machine and the versions.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
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
from scripts.benchmark.timing import machine
from utils.errors import UserError
from utils.training.trainer import Trainer

DEFAULT = {"channels_last": torch.cuda.is_available()}
ROWS: dict[str, dict[str, Any]] = {
    "default": DEFAULT,
    "default, cuda_graph": DEFAULT | {"cuda_graph": True},
    "contiguous": {},
    "channels_last": {"channels_last": True},
    "contiguous, cuda_graph": {"cuda_graph": True},
    "contiguous, amp": {"amp": "bf16"},
    "amp, channels_last": {"amp": "bf16", "channels_last": True},
    "amp, channels_last, cuda_graph": {"amp": "bf16", "channels_last": True, "cuda_graph": True},
    "fast": {"amp": "bf16", "channels_last": True, "compile": True, "cuda_graph": True},
}
ISW = (0, 0, 2, 2, 2, 0, 0)
WARM_UP = 7  # steps; a step is captured in the fourth
SELECTED = 0.02  # share of the covariances in the masks


class Setting(NamedTuple):
    """What is trained."""

    arch: str = "DeepR50V3PlusD"
    wt_layer: Sequence[int] = ISW
    batch: int = 4  # images per step
    crop: int = 768  # px


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
    parser.add_argument("--wt_layer", nargs="*", type=int, default=list(ISW), help="norm codes")
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--crop_size", type=int, help="px; default: 768 on a GPU, 64 otherwise")
    parser.add_argument(
        "--rows", nargs="*", choices=list(ROWS), help="rows to measure; default: all that can run"
    )
    parser.add_argument("--seconds", type=float, default=3, help="time to measure each row")
    parser.add_argument("--json", type=Path, help="file to which the rows are also written")


def run(args: argparse.Namespace) -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    setting = Setting(args.arch, args.wt_layer, args.batch, args.crop_size or (768 if cuda else 64))
    if args.batch < 2:
        raise UserError(f"--batch must be at least 2, not {args.batch}: batch norm needs two images")
    possible = [name for name, parts in ROWS.items() if cuda or not {"cuda_graph", "compile"} & set(parts)]
    possible.remove("channels_last" if cuda else "contiguous")  # the default
    title = f"{machine()}, {args.arch}, wt_layer {args.wt_layer}"
    print(f"{title}, {args.batch} images of {setting.crop} px", flush=True)
    print(f"{'':34}{'images/s':>10}{'ms/step':>10}{'GiB':>8}{'first s':>9}{'loss':>9}")
    rows = []
    for name in args.rows or possible:
        row = measure(name, setting, device, args.seconds)
        numbers = f"{row.images_per_second:10.1f}{row.ms_per_step:10.2f}{row.gib:8.2f}"
        print(f"{name:34}{numbers}{row.first_seconds:9.1f}{row.loss:9.4f}", flush=True)
        rows.append(row._asdict())
    if args.json:
        facts = {"machine": machine()} | setting._asdict()
        args.json.write_text(json.dumps(facts | {"rows": rows}, indent=1))


def measure(
    name: str,
    setting: Setting,
    device: torch.device,
    seconds: float,
    wait: Callable[[], object] = lambda: None,
) -> Row:
    """Return what steps with the flags of one row cost; `wait` is called when the step is compiled."""
    torch.compiler.reset()
    compiles = ROWS[name].get("compile", False)
    if not compiles:
        wait()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = make_trainer(setting, device, ROWS[name])
    images = make_batch(setting, device)
    first = timed_steps(trainer, images, 1)
    loss = trainer.means.take()[0]["train"]
    if compiles:
        wait()
    timed_steps(trainer, images, WARM_UP - 1)
    times: list[float] = []
    while len(times) < 2 or 5 * sum(times) < seconds:
        times.append(timed_steps(trainer, images, 5))
    step = sorted(times)[len(times) // 2]
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0
    return Row(name, setting.batch / step, 1e3 * step, memory, first, loss)


def timed_steps(trainer: Trainer, batch: dict[str, Tensor], count: int) -> float:
    """Return the seconds per step of `count` steps on one batch."""
    start = time.perf_counter()
    for _ in range(count):
        trainer.step(batch)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def make_trainer(
    setting: Setting, device: torch.device, parts: dict[str, Any], loaders: Any = None
) -> Trainer:
    """Return a trainer of random weights and masks, without data unless there are `loaders`."""
    torch.manual_seed(0)
    flags = ["--arch", setting.arch, "--pretrained", "none", "--wt_layer", *map(str, setting.wt_layer)]
    args = config.parse_train_args(flags)
    net = get_net(args).to(device).train()
    if parts.get("channels_last"):
        net.to(memory_format=torch.channels_last)
    whitening = Whitening.for_network(net, clusters=3, relax_denom=0)
    whitening.trials = 1
    for mask in whitening.masks:
        mask.mask.copy_(torch.rand(mask.mask.shape).triu(1) > 1 - SELECTED)
        mask.num_selected.copy_(mask.mask.sum())
    if loaders is None:
        sampler = SimpleNamespace(advance=lambda count: None)
        train = SimpleNamespace(sampler=sampler, batch_size=setting.batch)
        loaders = SimpleNamespace(train=train, photometric=None, steps_per_batch=1)
    losses = HeadLosses(MainLoss()).to(device)
    settings = {"wt_reg_weight": 0.6} | parts
    return Trainer(net, losses, whitening.to(device), *get_optimizer(args, net), loaders, settings)


def make_batch(setting: Setting, device: torch.device) -> dict[str, Tensor]:
    """Return random images, and labels of patches of 16 px."""
    batch, side = setting.batch, setting.crop
    image, label = torch.randn(batch, 3, side, side), torch.randint(0, 19, (batch, side // 16, side // 16))
    label = label.repeat_interleave(16, 1).repeat_interleave(16, 2)
    return {"image": image.to(device), "label": label.to(device)}
