"""The state of this process's random generators, as checkpoints hold it."""

import torch
from torch import Tensor


def random_state() -> dict[str, Tensor | None]:
    """Return the state of this process's random generators, which dropout draws from."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Tensor | None]) -> None:
    """Restore what `random_state` returned."""
    if state["cpu"] is not None:
        torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
