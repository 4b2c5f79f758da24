"""Mistakes that a user can mend: printed as one sentence, while every other error keeps its traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A flag, file or dataset that cannot be used. The message names it and says what would be accepted."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X or Y?" for up to three of `known` that are like `name`, "" if none is."""
    closest = get_close_matches(name, known)
    return f"; did you mean {' or '.join(closest)}?" if closest else ""
