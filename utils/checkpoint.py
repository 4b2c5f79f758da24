"""Checkpoints: a crash cannot damage one while it is written, and reading one runs no code from it."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from utils.errors import UserError
from utils.files import load_torch, replacing

VERSION = 1


class LoadReport(NamedTuple):
    """Which entries a checkpoint and a network have in common."""

    loaded: list[str]
    missing: list[str]  # only in the network
    unexpected: list[str]  # only in the checkpoint
    mismatched: list[str]  # in both, of different shapes

    @property
    def whole(self) -> bool:
        """Whether checkpoint and network have the same entries."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries loaded"]
        for kind in ("missing", "unexpected", "mismatched"):
            if names := getattr(self, kind):
                parts.append(
                    f"{len(names)} {kind}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
                )
        return "; ".join(parts)


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


def load_weights(
    net: nn.Module, state_dict: dict[str, torch.Tensor], allow_partial: bool = False
) -> LoadReport:
    """Fill `net` from `state_dict` (a `module.` prefix is dropped) and report what was loaded.

    Raises UserError if nothing matches and, unless `allow_partial`, if any entry does not match.
    """
    own = net.state_dict()
    given = {key.removeprefix("module."): value for key, value in state_dict.items()}
    shared = [key for key in given if key in own]
    mismatched = [key for key in shared if given[key].shape != own[key].shape]
    loaded = [key for key in shared if key not in set(mismatched)]
    report = LoadReport(
        loaded, [key for key in own if key not in given], [key for key in given if key not in own], mismatched
    )
    if not loaded:
        raise UserError(f"the checkpoint fits no entry of this network ({report}); check --arch")
    if not (allow_partial or report.whole):
        raise UserError(f"the checkpoint does not fit this network ({report}); check --arch and --wt_layer")
    net.load_state_dict({key: given[key] for key in loaded}, strict=False)
    return report
