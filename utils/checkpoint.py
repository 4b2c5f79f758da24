"""Checkpoints: written so that a crash cannot spoil one, read without executing anything."""

from pathlib import Path

import torch

from utils.errors import UserError
from utils.files import load_torch, replacing

VERSION = 1


def save(path: Path, state: dict) -> None:
    """Write `state` to `path` whole or not at all."""
    with replacing(path) as temporary:
        torch.save({**state, "version": VERSION}, temporary)


def load(path: str | Path) -> dict:
    """Return the checkpoint at `path`, on the CPU; tensors, numbers and strings only.

    Raises FileNotFoundError, or ValueError for no checkpoint or one that holds anything that would run code.
    """
    state = load_torch(path, "checkpoint")
    if not isinstance(state, dict) or "state_dict" not in state:
        raise UserError(
            f"{path} holds no state_dict; expected a checkpoint of this project or the published code"
        )
    return state


def check_settings(state: dict, settings: dict) -> None:
    """Raise ValueError if the run that wrote `state` recorded other values of any of `settings`.

    What has no entries (instance norms without weights) and what is no tensor is told apart only here.
    Checkpoints of the published code recorded nothing.
    """
    recorded = state.get("settings", {})
    other = {key: value for key, value in settings.items() if recorded.get(key, value) != value}
    if other:
        texts = [f"{key} {recorded[key]}, not {value}" for key, value in other.items()]
        raise ValueError(f"the checkpoint was trained with {'; '.join(texts)}")
