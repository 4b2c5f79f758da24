"""Standard output that ends no program: its reader may go, its disk be full, its encoding lack letters."""

import io
import os
import sys
from typing import Any


class Output:
    """Stands in for the standard stream `stream`. After a write that fails, nothing more is written."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text as the stream does."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self.stream.flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        """Give the stream's descriptor to the null device, so that what is still in its buffer goes there."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):  # of `| head`
            print(
                f"standard output cannot be written: {error.strerror}; going on without it", file=sys.stderr
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def make_print_safe() -> None:
    """Let no print of this program raise; a character that the encoding lacks is printed as \\uNNNN."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, Output(stream))
