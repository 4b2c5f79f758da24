"""Mistakes that a user can mend: printed as one sentence, while every other error keeps its traceback."""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

# Errors of a system that lets this process open no more files or have no more memory or processes.
NOTHING_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


class UserError(ValueError):
    """A flag, file or dataset that cannot be used. The message names it and says what would be accepted."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there."""


class DamagedFile(UserError):
    """A file whose content is not what was written."""


class UnknownValues(UserError):
    """A label with `pixels` whose values its dataset does not have."""

    def __init__(self, text: str, pixels: int = 0):
        super().__init__(text)
        self.pixels = pixels


class DiskFull(UserError, OSError):
    """A file that could not be written for lack of room. What was at its place before is unchanged."""


@contextmanager
def naming(what: str | Path) -> Iterator[None]:
    """Let the message of every UserError begin with `what`, the thing that is wrong."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X or Y?" for up to three of `known` that are like `name`, "" if none is."""
    closest = get_close_matches(name, known)
    return f"; did you mean {' or '.join(closest)}?" if closest else ""


def few(names: Sequence[str], limit: int = 20) -> str:
    """Return the first `limit` names and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
