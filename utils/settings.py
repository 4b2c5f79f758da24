"""What a training run records of itself in its checkpoints."""

import shlex
from collections.abc import Mapping
from typing import Any

# Flags of published and of early checkpoints, which recorded only their command, and the abbreviations that
# were accepted then. A flag without values is a switch.
EARLY_FLAGS = {
    "dataset": ("--dataset", "--datase", "--datas"),
    "adapt_dataset": ("--adapt_dataset",),
    "image_in": ("--image_in", "--image_i"),
    "arch": ("--arch",),
    "wt_layer": ("--wt_layer", "--wt_laye", "--wt_lay", "--wt_la", "--wt_l"),
}


def recorded(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run that wrote the checkpoint `state`, a flag or derived fact by name.

    Of a checkpoint that has no whole record, the settings that its command shows are added.
    """
    return settings_of_command(state.get("command", "")) | dict(state.get("settings", {}))


def settings_of_command(command: str) -> dict[str, Any]:
    """Return arch, wt_layer, image_in, dataset and adapt_dataset as a training command gives them."""
    try:
        words = shlex.split(command.replace("=", " "))
    except ValueError:  # an open quotation
        words = command.split()
    if not words:
        return {}
    settings: dict[str, Any] = {"dataset": ["cityscapes"], "adapt_dataset": None, "image_in": False}
    for name, spellings in EARLY_FLAGS.items():
        for place, word in enumerate(words):
            if word in spellings:
                settings[name] = _values(words[place + 1 :])
    if settings["image_in"] is not False:
        settings["image_in"] = True
    for name in ("adapt_dataset", "arch"):
        if settings.get(name):
            settings[name] = settings[name][0]
    if "arch" in settings:
        settings["arch"] = settings["arch"].removeprefix("network.deepv3.")
    if "wt_layer" in settings:
        settings["wt_layer"] = [int(code) for code in settings["wt_layer"]]
    return settings


def _values(words: list[str]) -> list[str]:
    """Return the words up to the next flag."""
    end = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:end]
