"""Signals to processes that a run starts: a loader's process must survive one, and must not be immortal."""

import multiprocessing
import signal
import sys
import time

import pytest
import torch

from tests.helpers import ROOT, run_command
from utils.signals import StopSignal

LOADER_IS_LEFT = """
import torch
from torch.utils.data import DataLoader
from utils.signals import StopSignal
loader = DataLoader(range(8), num_workers=2, persistent_workers=True)
with StopSignal(torch.device("cpu"), ""):
    loader.itself, iterator = loader, iter(loader)
    next(iterator)
    {}
"""


def sleep(ready):
    ready.set()
    for _ in range(100):
        time.sleep(0.1)


def child_within_stop_signal():
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    with StopSignal(torch.device("cpu"), "command"):
        child = context.Process(target=sleep, args=(ready,), daemon=True)
        child.start()
        ready.wait(10)
    return child


def test_a_loaders_process_survives_one_signal_to_all_and_ends_with_the_next():
    child = child_within_stop_signal()
    child.terminate()
    child.join(0.5)
    assert child.is_alive()
    child.terminate()
    child.join(5)
    assert child.exitcode == -signal.SIGTERM


def test_a_loaders_process_ends_some_time_after_a_signal(monkeypatch):
    """Python ends its children by one SIGTERM at exit, and waits for them without limit."""
    monkeypatch.setattr("utils.signals.GRACE", 1)
    child = child_within_stop_signal()
    child.terminate()
    child.join(10)
    assert child.exitcode == -signal.SIGALRM


@pytest.mark.parametrize("end, code", [("pass", 0), ("raise SystemExit(3)", 3)])
def test_a_program_does_not_wait_for_its_loaders(end, code):
    start = time.monotonic()
    done = run_command([sys.executable, "-c", LOADER_IS_LEFT.format(end)], PYTHONPATH=str(ROOT))
    assert done.returncode == code and not done.stderr, done.stderr
    assert time.monotonic() - start < 40
