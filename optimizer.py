"""The optimizer and the learning-rate schedule that the flags choose; stepped once per iteration."""

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

TRUNK = ("layer0", "layer1", "layer2", "layer3", "layer4")


def poly(max_iter: int, exponent: float):
    """Return the factor (1 - it / max_iter) ** exponent as a function of the iteration."""
    return lambda iteration: (1 - min(iteration, max_iter) / max_iter) ** exponent


def rescaled_poly(max_iter: int, exponent: float, switch: int, rescale: float, repoly: float):
    """Return `poly` before `switch`, then rescale * (1 - (it - switch) / (max_iter - switch)) ** repoly."""
    first = poly(max_iter, exponent)
    second = poly(max_iter - switch, repoly)
    return lambda iteration: first(iteration) if iteration < switch else rescale * second(iteration - switch)


def constant(iteration: int) -> float:
    return 1.0


def get_optimizer(args, net: nn.Module) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Build the optimizer over the trainable parameters of `net`, and its schedule.

    Reads args.lr, lr_bias, momentum, weight_decay, adam, amsgrad, freeze_trunk, lr_schedule, poly_exp,
    max_iter, rlx_off_iter, rescale, repoly. Raises ValueError for an unknown --lr_schedule.
    """
    if args.freeze_trunk:
        for name in TRUNK:
            getattr(net, name).requires_grad_(False)
    parameters = [p for p in net.parameters() if p.requires_grad]
    if args.lr_bias != 1:
        biases = {p for name, p in net.named_parameters() if name.endswith("bias")}
        parameters = [
            {"params": [p for p in parameters if p not in biases]},
            {"params": [p for p in parameters if p in biases], "lr": args.lr_bias * args.lr},
        ]
    if args.adam:
        optimizer = torch.optim.Adam(
            parameters, args.lr, weight_decay=args.weight_decay, amsgrad=args.amsgrad
        )
    else:
        optimizer = torch.optim.SGD(parameters, args.lr, args.momentum, weight_decay=args.weight_decay)
    if args.lr_schedule == "poly":
        factor = poly(args.max_iter, args.poly_exp)
    elif args.lr_schedule == "scl-poly":
        if not 0 <= args.rlx_off_iter < args.max_iter:
            raise ValueError(
                f"--lr_schedule scl-poly switches at --rlx_off_iter, which must lie in [0, {args.max_iter}), "
                f"not {args.rlx_off_iter}"
            )
        factor = rescaled_poly(args.max_iter, args.poly_exp, args.rlx_off_iter, args.rescale, args.repoly)
    elif args.lr_schedule == "constant":
        factor = constant
    else:
        raise ValueError(f"unknown --lr_schedule {args.lr_schedule}; known are poly, scl-poly, constant")
    return optimizer, LambdaLR(optimizer, factor)
