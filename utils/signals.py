"""Signals that ask a run to stop: it finishes its step, saves, and ends with a code of its own."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from utils import distributed

CONTINUE = 75  # exit code of a run that is to be continued: EX_TEMPFAIL of sysexits.h
SIGNALS = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1
LAG = 2  # steps after which the processes' flags are read, so that the host does not wait for the device
SAME = 0.5  # s within which a second signal counts as the first one: launchers may send it twice


class Stopped(BaseException):
    """The run was asked to stop. The message says how to continue it."""


class StopSignal:
    """Turns SIGTERM, SIGINT and SIGUSR1 into a request to stop; a second signal ends the process at once.

    Within `recording` a signal is only recorded, and `requested` tells all processes at the same step.
    Elsewhere it raises Stopped. Leaving the `with` block restores the handlers. The SIGTERM that a launcher
    sends once another process has ended is no second signal: this process may be writing a checkpoint.
    """

    def __init__(self, device: torch.device, command: str) -> None:
        self.device, self.command = device, command  # the command continues the run
        self.received: int | None = None
        self.since, self.is_recording, self.outlasted = 0.0, False, False
        self.process, self.before = os.getpid(), dict[int, Any]()
        self.flags: deque[Callable[[], bool]] = deque()

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a loader's process, which datasets.loaders ends
            return
        if self.received is None:
            self.received, self.since = number, time.monotonic()
            if not self.is_recording:
                raise self.stopped()
        elif number == signal.SIGTERM and not self.outlasted and distributed.other_ended():
            self.outlasted = True
        elif time.monotonic() > self.since + SAME:
            os._exit(128 + number)

    def stopped(self) -> Stopped:
        """Return the exception that ends the run."""
        name = signal.Signals(self.received).name if self.received else "another process's signal"
        return Stopped(f"stopped by {name}; continue with: {self.command}")

    @contextmanager
    def recording(self, settle: Callable[[], object]) -> Iterator[None]:
        """Let signals wait until `requested` is asked; leaving the block raises Stopped for one that came.

        Of several processes, all call `settle`, leave the block and raise together.
        """
        self.is_recording = True
        try:
            yield
            self.requested()
            answers = [flag() for flag in self.flags]
            self.flags.clear()
            if any(answers):
                settle()
        finally:
            self.is_recording = False
        if any(answers) or self.received is not None:
            raise self.stopped()

    def requested(self) -> bool:
        """Whether any process was asked to stop; all processes call this after each step.

        Of several processes, all get the answer at the same step, LAG steps after the signal.
        """
        if distributed.world_size() == 1:
            return self.received is not None
        self.flags.append(distributed.any_later(self.received is not None, self.device))
        return len(self.flags) > LAG and self.flags.popleft()()
