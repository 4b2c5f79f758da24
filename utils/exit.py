"""How a program ends: one sentence for what a user can mend, the whole traceback for every other error."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator

from utils import distributed
from utils.errors import UserError


@contextlib.contextmanager
def exit_cleanly() -> Iterator[None]:
    """Run a program and leave the process group; after an error, end with the exit code 2 or 1.

    A UserError, or an OSError that names a file, is printed as one sentence; the exit code is 2. Every other
    error is a mistake in the code: it keeps its traceback, and the exit code is 1. One of several processes
    ends at once, because the shutdown of NCCL would wait for processes that wait for this one.
    """
    try:
        yield
    except Exception as error:
        mendable = isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)
        if mendable:
            print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
        if distributed.world_size() > 1:
            if not mendable:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(2 if mendable else 1)
        if mendable:
            raise SystemExit(2) from error
        raise
    else:
        distributed.finish()


def sentence(error: Exception) -> str:
    """Return an error's own message, also where a loader worker wrapped its whole traceback around it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()
