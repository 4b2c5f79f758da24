"""How the weights of a checkpoint fill a network."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from utils.errors import UserError

NAMES_SHOWN = 6  # of each kind in a message


class LoadReport(NamedTuple):
    """Which entries of a checkpoint and of a network fit each other."""

    loaded: list[str]
    missing: list[str]  # only in the network
    unexpected: list[str]  # only in the checkpoint
    mismatched: list[str]  # in both, with different shapes

    @property
    def complete(self) -> bool:
        """Whether every entry of either side was loaded."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} entries loaded"]
        for kind in ("missing", "unexpected", "mismatched"):
            if names := getattr(self, kind):
                more = ", ..." if len(names) > NAMES_SHOWN else ""
                parts.append(f"{len(names)} {kind}: {', '.join(names[:NAMES_SHOWN])}{more}")
        return "; ".join(parts)


def without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the `module.` that checkpoints put before each name."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def load_weights(net: nn.Module, state_dict: Mapping[str, Tensor], allow_partial: bool = False) -> LoadReport:
    """Fill `net` from `state_dict`, whose names may begin with `module.`, and report which entries fit.

    Raises UserError when no entry fits and, unless `allow_partial`, when any entry of either side does not.
    """
    own, given = net.state_dict(), without_prefix(state_dict)
    mismatched = [key for key in given if key in own and given[key].shape != own[key].shape]
    loaded = [key for key in given if key in own and key not in set(mismatched)]
    report = LoadReport(
        loaded, [key for key in own if key not in given], [key for key in given if key not in own], mismatched
    )
    if not loaded:
        raise UserError(f"the checkpoint fits no entry of this network ({report}); check --arch")
    if not (allow_partial or report.complete):
        raise UserError(f"the checkpoint does not fit this network ({report}); check --arch and --wt_layer")
    net.load_state_dict({key: given[key] for key in loaded}, strict=False)
    return report
