"""The optimizer and the learning-rate schedule that the flags choose; stepped once per iteration."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from utils.errors import UserError

TRUNK = ("layer0", "layer1", "layer2", "layer3", "layer4")


def poly(max_iter: int, exponent: float) -> Callable[[int], float]:
    """Return the factor (1 - it / max_iter) ** exponent as a function of the iteration."""
    return lambda iteration: (1 - min(iteration, max_iter) / max_iter) ** exponent


def rescaled_poly(
    max_iter: int, exponent: float, switch: int, rescale: float, repoly: float
) -> Callable[[int], float]:
    """Return `poly` before `switch`, then rescale * (1 - (it - switch) / (max_iter - switch)) ** repoly."""
    first = poly(max_iter, exponent)
    second = poly(max_iter - switch, repoly)
    return lambda iteration: first(iteration) if iteration < switch else rescale * second(iteration - switch)


def constant(iteration: int) -> float:
    """Return the factor 1."""
    return 1.0


def get_optimizer(args: argparse.Namespace, net: nn.Module) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Build the optimizer over the trainable parameters of `net`, and its schedule.

    Reads args.lr, lr_bias, lr_head, momentum, weight_decay, weight_decay_bias, adam, amsgrad, freeze_trunk,
    lr_schedule, poly_exp, max_iter, rlx_off_iter, rescale, repoly.
    """
    if args.freeze_trunk:
        for name in TRUNK:
            getattr(net, name).requires_grad_(False)
    groups = parameter_groups(net, args.lr, args.lr_bias, args.lr_head, args.weight_decay_bias)
    optimizer: torch.optim.Optimizer
    if args.adam:
        optimizer = torch.optim.Adam(groups, args.lr, weight_decay=args.weight_decay, amsgrad=args.amsgrad)
    else:
        # One kernel for all parameters. With a gradient scaler, it would start from momenta that are not set.
        scaled = args.fp16 or args.amp == "fp16"
        fused = not scaled and all(p.is_cuda for p in net.parameters()) or None
        decay = args.weight_decay
        optimizer = torch.optim.SGD(groups, args.lr, args.momentum, weight_decay=decay, fused=fused)
    return optimizer, LambdaLR(optimizer, schedule_factor(args))


def parameter_groups(
    net: nn.Module, lr: float, bias_factor: float, head_factor: float, bias_decay: float | None
) -> list[dict[str, Any]]:
    """Return the trainable parameters of `net` in the fewest groups that differ in their settings.

    The head is what is not in the five stages of the backbone, its norms included. The rate of biases is `lr`
    times `bias_factor`, that of the head times `head_factor`, that of its biases times both. `bias_decay` is
    the weight decay of biases, None for that of weights. Shifts of norms are biases, scales are weights.
    """
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            head = head_factor != 1 and name.partition(".")[0] not in TRUNK
            bias = (bias_factor != 1 or bias_decay is not None) and name.endswith("bias")
            rate = lr * (head_factor if head else 1) * (bias_factor if bias else 1)
            decay = {"weight_decay": bias_decay} if bias and bias_decay is not None else {}
            groups.setdefault((head, bias), {"params": [], "lr": rate} | decay)["params"].append(parameter)
    return list(groups.values())


def schedule_factor(args: argparse.Namespace) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the iteration, as --lr_schedule chooses."""
    if args.lr_schedule == "poly":
        return poly(args.max_iter, args.poly_exp)
    if args.lr_schedule == "scl-poly":
        return rescaled_poly(args.max_iter, args.poly_exp, args.rlx_off_iter, args.rescale, args.repoly)
    if args.lr_schedule == "constant":
        return constant
    raise UserError(f"--lr_schedule {args.lr_schedule} is unknown; choose poly, scl-poly or constant")
