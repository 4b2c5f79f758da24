"""Floating-point precision of what is computed."""

import torch
from torch import Tensor


def float32_or_better(x: Tensor) -> Tensor:
    """Return x, converted to float32 if it is of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
