"""How a program ends: one sentence for what a user can mend, the whole traceback for every other error."""

import contextlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

from utils import bars, distributed, output
from utils.errors import NOTHING_LEFT, UserError
from utils.logging import write_to_file
from utils.signals import CONTINUE, Stopped

ENDED = "another process ended"
# What a user can do about errors of libraries, by words of their messages.
MENDABLE = {
    "out of memory|can't allocate memory|unable to allocate [0-9]|unable to find an engine|bad_alloc|"
    "^MemoryError$": "the memory does not suffice; lower --bs_mult, --global_batch_size or --crop_size, or "
    "use --fp16",
    "shared memory|bus error|unable to (write to|resize) file </torch|/dev/shm": "no room in /dev/shm for "
    "the batches of the loaders; lower --num_workers, or give a container more with --shm-size",
    "DataLoader worker .* exited unexpectedly with exit code": "a loader process ended by itself, as by "
    "sys.exit in a dataset or an augmentation; --num_workers 0 shows where",
    "DataLoader worker .* (killed by signal|exited unexpectedly)": "a loader process was killed, most likely "
    "because the memory or /dev/shm ran out; lower --num_workers, or give a container more with --shm-size",
    "No space left on device": "the disk is full",
    "Too many open files|ancdata": "the system lets a process open no more files; lower --num_workers, or "
    "raise the limit with ulimit -n",
    "Resource temporarily unavailable|can't start new thread": "the system allows no more processes or "
    "threads; lower --num_workers, or raise the limit with ulimit -u",
    "Timed out waiting|Watchdog caught collective|wait timeout": "another process did not answer for "
    f"{distributed.PATIENCE_MINUTES} minutes; it hangs, or it waits for its data",
    "EADDRINUSE|address already in use": "another program has the port of the process group (MASTER_PORT, "
    "--master_port); name another one, or launch with torchrun --standalone, which takes a free one",
    "Connection (closed|reset) by|Broken pipe|connection was aborted": f"{ENDED}; its own message says why",
}


@contextlib.contextmanager
def exit_cleanly(launched: bool = False) -> Iterator[None]:
    """Run a program and leave the process group; after an error, end with the exit code 2 or 1.

    What a user can mend is printed as one sentence, once for all processes; the exit code is 2. Every other
    error is a mistake in the code: it keeps its traceback, and the exit code is 1. Both go to the log file
    too, also those of another process. A process of a group ends at once, because the shutdown of NCCL would
    wait for processes that wait for this one, and a thread of gloo that is still busy when Python ends would
    abort the process. A run that a signal stopped ends with the code CONTINUE, after one line of the main
    process.

    A program that may be `launched` as several processes is told so: RANK in the environment of others means
    nothing. Its own code calls sys.exit only after this block. If a user's dataset or network does so within,
    one sentence says where, and the exit code is that of sys.exit.
    """
    output.make_print_safe()
    try:
        with bars.closing():
            yield
    except Stopped as stopped:
        outlast_launcher()
        say_stopped(str(stopped))
        if dist.is_initialized():
            end_at_once(CONTINUE)
        raise SystemExit(CONTINUE) from stopped
    except Exception as error:
        outlast_launcher()
        text = mendable(error)
        report = f"error: {text}" if text else "".join(traceback.format_exception(error))
        if text and text.startswith(ENDED):
            if reason := distributed.told("why stopped"):
                say_stopped(reason)
                end_at_once(CONTINUE)
            write_to_file(distributed.told("why failed") or report)
        else:
            leave_reason(report)
        if text and is_first_to_say(text, launched):
            print(f"error: {text}", file=sys.stderr, flush=True)
        if dist.is_initialized():
            if not text:
                traceback.print_exc()
            end_at_once(2 if text else 1)
        if text:
            raise SystemExit(2) from error
        raise
    except SystemExit as end:
        if launched:
            end_as_user(end)
        raise
    except KeyboardInterrupt:
        leave_reason("KeyboardInterrupt")
        if dist.is_initialized():
            traceback.print_exc()
            flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)  # as Python ends after this error
        raise
    else:
        distributed.finish()


def leave_reason(text: str) -> None:
    """Let the log file and the other processes know why this one ends."""
    distributed.tell("why failed", f"process {distributed.rank()}: {text}")
    write_to_file(text)


def end_as_user(end: SystemExit) -> None:
    """Say where a user's code called sys.exit, or exit; end a process of a group at once."""
    frames = traceback.extract_tb(end.__traceback__)
    where = [frame for frame in frames if "_sitebuiltins" not in frame.filename][-1]  # of exit itself
    if Path(where.filename).name == "argparse.py":  # --help
        return
    outlast_launcher()
    report = f"error: sys.exit({end.code!r}) in {where.filename}, line {where.lineno}, ended the run"
    leave_reason(report)
    print(report, file=sys.stderr, flush=True)
    if dist.is_initialized():
        end_at_once(end.code if isinstance(end.code, int) else int(end.code is not None))


def end_at_once(code: int) -> NoReturn:
    """End this process without Python's shutdown; what was printed is written."""
    flush()
    os._exit(code)


def flush() -> None:
    """Write what was printed."""
    sys.stdout.flush()
    sys.stderr.flush()


def say_stopped(text: str) -> None:
    """Print that a signal stopped the run, once for all processes, and tell those that notice it later.

    While steps are done all processes stop together. Elsewhere the others notice that one has ended.
    """
    if distributed.is_main():
        write_to_file(text)
    if not dist.is_initialized() or distributed.world_size() == 1:
        first = distributed.is_first()
    else:
        try:
            store = dist.distributed_c10d._get_default_store()
            first = store.add("stopped", 1) == 1
            if first:
                distributed.tell("why stopped", text)
        except RuntimeError:  # the store has ended with another process
            first = distributed.is_main()
    if first:
        print(text, file=sys.stderr, flush=True)


def outlast_launcher() -> None:
    """Let the first SIGTERM pass from now on: a launcher sends it once one of its processes has ended.

    This process may be about to say why it ends.
    """
    if dist.is_initialized() and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))


def mendable(error: Exception) -> str | None:
    """Return the sentence for an error that a user can mend: a UserError, an OSError that names a file, or
    an error of a library that is known here; None for every other error."""
    named = isinstance(error, OSError) and error.filename is not None and error.errno not in NOTHING_LEFT
    if isinstance(error, UserError) or named:
        return sentence(error)
    if isinstance(error, RuntimeError | OSError | MemoryError):
        message = f"{str(error) or type(error).__name__}\n{error.__cause__}"
        for words, text in MENDABLE.items():
            if text.startswith(ENDED) and "MASTER_ADDR" not in os.environ:
                continue  # no launcher, so the connection is the user's own
            if found := re.search(f".*(?:{words}).*", message, re.IGNORECASE | re.MULTILINE):
                return f"{text} ({found[0].strip()[:200]})"
    return None


def sentence(error: Exception) -> str:
    """Return an error's own message, also where a loader worker wrapped its whole traceback around it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()


def is_first_to_say(text: str, launched: bool = True) -> bool:
    """Whether no other process of the group has said `text` yet.

    Before the group is joined, all processes find the same mistakes in the same flags, and the first one says
    them.
    """
    if not dist.is_initialized():
        return not launched or distributed.is_first() or "has no GPU of its own" in text
    if distributed.world_size() == 1:
        return True
    try:
        store = dist.distributed_c10d._get_default_store()
        return store.add(f"said: {text!a}", 1) == 1  # ASCII: see `distributed.tell`
    except RuntimeError:  # the store has ended with another process
        return True
