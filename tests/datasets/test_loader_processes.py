"""Processes of loaders ignore signals, so a program has to end them itself."""

import sys
import time

import pytest

from tests.helpers import ROOT, run_command

LOADER_IS_LEFT = """
from torch.utils.data import DataLoader
from datasets.loaders import _ignore_signals
loader = DataLoader(range(8), num_workers=2, persistent_workers=True, worker_init_fn=_ignore_signals)
loader.itself, iterator = loader, iter(loader)
next(iterator)
{}
"""


@pytest.mark.parametrize("end, code", [("pass", 0), ("raise SystemExit(3)", 3)])
def test_a_program_does_not_wait_for_its_loaders(end, code):
    start = time.monotonic()
    done = run_command([sys.executable, "-c", LOADER_IS_LEFT.format(end)], PYTHONPATH=str(ROOT))
    assert done.returncode == code and not done.stderr, done.stderr
    assert time.monotonic() - start < 40
