"""Checkpoints: a crash cannot damage one while it is written, and reading one runs no code from it."""

from pathlib import Path

import torch

from utils.errors import UserError
from utils.files import load_torch, replacing

VERSION = 2  # 2: the networks of network.archs.REBUILT are the published ones


def save(path: Path, state: dict) -> None:
    """Write `state` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        torch.save({**state, "version": VERSION}, temporary)


def load(path: str | Path) -> dict:
    """Return the checkpoint at `path`, on the CPU; tensors, numbers and strings only.

    Raises MissingFile if there is no file, and UserError for a file that is not a checkpoint or that holds
    anything that would run code.
    """
    state = load_torch(path, "checkpoint")
    if not isinstance(state, dict) or "state_dict" not in state:
        raise UserError(
            f"{path} holds no state_dict; expected a checkpoint of this project or the published code"
        )
    return state


def check_settings(state: dict, settings: dict) -> None:
    """Raise UserError if the run that wrote `state` recorded other values of any of `settings`.

    Some settings leave no trace in the weights, so they are compared here. Checkpoints of the published code
    recorded nothing.
    """
    recorded = state.get("settings", {})
    other = {key: value for key, value in settings.items() if recorded.get(key, value) != value}
    if other:
        texts = [f"{key} {recorded[key]}, not {value}" for key, value in other.items()]
        raise UserError(f"the checkpoint was trained with {'; '.join(texts)}")
