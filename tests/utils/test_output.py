"""Standard output that goes away, is full or lacks letters ends no program."""

import io
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT
from utils.exit import exit_cleanly

PROGRAM = """
import os, sys
from utils.output import make_print_safe
make_print_safe()
for _ in range(2):
    print("x" * 100000, flush=True)
    os.write(2, b"on")
print("left in the buffer")
"""


def test_characters_that_the_terminal_lacks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with exit_cleanly():
        print("M\xfcnchen \u6771")
    stream.flush()
    assert stream.buffer.getvalue() == b"M\\xfcnchen \\u6771\n"


@pytest.mark.parametrize("kind", ["closed pipe", "full disk", "none"])
def test_output_that_cannot_be_written(kind):
    """The program goes on to its end, with exit code 0; a full disk is said once."""
    if kind == "full disk":
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, out = os.pipe()
        os.close(reader)
    command = [sys.executable, "-c", PROGRAM]
    if kind == "none":
        command = ["bash", "-c", 'exec "$@" >&-', "bash", *command]
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(out)
    full = "standard output cannot be written: No space left on device; going on without it\n"
    assert (done.returncode, done.stderr) == (0, full * (kind == "full disk") + "onon")
