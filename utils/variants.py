"""Names of datasets that are scored in several ways.

cityscapes@fog-3 is cityscapes in fog of severity 3 (see transforms/corruptions), cityscapes@scale-0.5 is
cityscapes predicted at scale 0.5 only.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from utils.errors import UserError, suggestion

# fmt: off
COMMON = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # the 15 of the benchmark (arXiv 1903.12261)
# fmt: on
EXTRA = ("speckle_noise", "gaussian_blur", "saturate")
SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"  # stands for COMMON
SCALE = "scale-"
NOTES = {"frost": "rendered texture"}  # where a score cannot be compared with published ones


class Entry(NamedTuple):
    """A dataset, and what its images are corrupted by or at which scale they are predicted, if anything."""

    dataset: str
    corruption: str = ""
    severity: int = 0
    scale: float = 0.0  # 0: as the protocol says

    def __str__(self) -> str:
        if self.scale:
            return f"{self.dataset}@{SCALE}{self.scale}"
        return f"{self.dataset}@{self.corruption}-{self.severity}" if self.corruption else self.dataset

    @property
    def is_variant(self) -> bool:
        """Whether this is not the dataset as it is, under the protocol as it is."""
        return bool(self.corruption or self.scale)


def parse(name: str) -> Entry:
    """Return the entry of a name; UserError for an unknown corruption or severity, or an impossible scale."""
    dataset, at, variant = name.partition("@")
    if not at:
        return Entry(name)
    if variant.startswith(SCALE):
        return Entry(dataset, scale=_scale(variant.removeprefix(SCALE)))
    corruption, _, severity = variant.rpartition("-")
    check(corruption)
    if severity not in map(str, SEVERITIES):
        raise UserError(f"{name} has severity {severity!r}; severities are 1 to {SEVERITIES[-1]}")
    return Entry(dataset, corruption, int(severity))


def title(name: str) -> str:
    """Return a name with the note on its corruption, if there is one."""
    note = NOTES.get(parse(name).corruption)
    return f"{name} ({note})" if note else name


def check(corruption: str) -> None:
    """Raise UserError if there is no such corruption."""
    known = (*COMMON, *EXTRA)
    if corruption not in known:
        hint = suggestion(corruption, known)
        raise UserError(f"unknown corruption {corruption!r}, choose from {ALL}, {', '.join(known)}{hint}")


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise UserError(f"{text!r} is not a scale; scales are finite numbers above 0, such as 0.5")
    return scale


def entries(
    datasets: Sequence[str],
    corruptions: Sequence[str],
    severities: Sequence[int],
    scales: Sequence[float] = (),
) -> list[str]:
    """Return the names of the datasets, each followed by its names under every corruption and severity.

    Its names at every one of `scales` follow.

    Raises UserError for an unknown corruption or severity.
    """
    chosen = [each for name in corruptions for each in (COMMON if name == ALL else (name,))]
    for name in chosen:
        check(name)
    if wrong := [severity for severity in severities if severity not in SEVERITIES]:
        raise UserError(f"--severity takes numbers from 1 to {SEVERITIES[-1]}, not {wrong[0]}")
    names = []
    for dataset in datasets:
        names += [dataset]
        names += [str(Entry(dataset, name, severity)) for name in chosen for severity in severities]
        names += [str(Entry(dataset, scale=scale)) for scale in scales]
    return list(dict.fromkeys(names))
