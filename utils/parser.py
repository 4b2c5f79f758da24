"""Command lines: no abbreviated flags, errors of one sentence, and help that shows every default."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from utils.errors import UserError, suggestion


class Help(argparse.RawDescriptionHelpFormatter):
    """Adds to the help of each flag its default, or that it is required; keeps the lines of a description."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if not action.option_strings or action.default is argparse.SUPPRESS or "default:" in text:
            return text
        return f"{text} (required)" if action.required else f"{text} (default: {as_typed(action.default)})"


def as_typed(default: Any) -> str:
    """Return a default as a user would type it, for argparse's help."""
    if default is None or default == "" or default == []:
        return "not set"
    if isinstance(default, bool):
        return "on" if default else "off"
    words = default if isinstance(default, list | tuple) else [default]
    return " ".join(map(str, words)).replace("%", "%%")


class Parser(argparse.ArgumentParser):
    """A parser that accepts no abbreviated flag, and whose errors are UserErrors of one sentence."""

    def __init__(self, **options: Any) -> None:
        options = {"prog": module(), "formatter_class": Help, "allow_abbrev": False} | options
        super().__init__(**options)

    def parse_args(self, argv: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_args(argv, namespace)
        if not unknown:
            return known
        words, flag = " ".join(unknown), unknown[0].partition("=")[0]
        if flag.startswith("-"):
            self.error(f"unrecognized arguments: {words}{suggestion(flag, self.flags())}")
        raise UserError(
            f"no flag takes {words}, because the flag before has its one value; where a pattern (*) "
            "matched several files, name one, or for --snapshot the run's folder"
        )

    def flags(self) -> set[str]:
        """Return the flags of this parser and of its commands."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found = found.union(*(command.flags() for command in action.choices.values()))
        return found

    def error(self, message: str) -> NoReturn:
        raise UserError(message if message.endswith("?") else f"{message}; --help lists the flags")


def module() -> str | None:
    """Return how the running program was started if that was by `python -m`, else None."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else None


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the program after a UserError with its sentence and code 2, as utils.exit does for larger ones."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
