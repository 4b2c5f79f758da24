"""The log of a program."""

import contextlib
import logging
import os
import shlex
import sys
import warnings
from pathlib import Path

from utils import bars, distributed

logger = logging.getLogger("robustnet")  # of what is the same on all processes: the main one says it
own_logger = logger.getChild("process")  # of what may be on one process only, such as its images


class Console(logging.StreamHandler):
    """Writes whole lines to standard output, also where a bar stands."""

    def emit(self, record: logging.LogRecord) -> None:
        with bars.aside():
            super().emit(record)


class LogFile(logging.FileHandler):
    """Writes to a file; where that fails, says so once and writes no more, as the console has every line.

    If someone removes the file, it is begun anew, once its folder is there.
    """

    failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.failed and self._is_removed():
            try:
                if removed := self.setStream(self._open()):
                    removed.close()
                own_logger.warning("%s was removed; it begins anew", self.baseFilename)
            except FileNotFoundError:  # its folder is not there
                pass
            except OSError:
                self.handleError(record)
        if not self.failed:
            super().emit(record)

    def _is_removed(self) -> bool:
        try:
            os.stat(self.baseFilename)
        except OSError as error:  # another one is of the disk; writing fails then, too, and says so
            return isinstance(error, FileNotFoundError)
        return False

    def handleError(self, record: logging.LogRecord) -> None:
        self.failed = True
        own_logger.warning(
            "%s cannot be written: %s; its lines end here", self.baseFilename, sys.exc_info()[1]
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of a full disk
            super().close()


class Early(logging.Handler):
    """Keeps what is logged before there is a log file."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Lines(logging.Formatter):
    """Begins each message with the time; bytes of names that are not UTF-8 become \\udcNN."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode(errors="backslashreplace").decode()


def setup(file: Path | None = None) -> None:
    """Send log lines and warnings to the console and, if given, to `file`, which opens with the command.

    A file that is there is continued. What was logged before goes to the file too. Processes other than the
    main one only warn, and only through `own_logger`.
    """
    early = [r for handler in logger.handlers if isinstance(handler, Early) for r in handler.records]
    keep = Early()
    keep.records = early
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(logging.INFO if distributed.is_main() else logging.ERROR)
    own_logger.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    handlers: list[logging.Handler] = [Console(sys.stdout)]
    handlers += [LogFile(file, encoding="utf-8")] if file else [keep]
    for handler in handlers:
        handler.setFormatter(Lines("%(asctime)s %(message)s", "%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    if file:
        command = logging.LogRecord(logger.name, logging.INFO, "", 0, shlex.join(sys.argv), None, None)
        for record in [command, *early]:
            handlers[-1].handle(record)


def warn_in_log() -> None:
    """Let warnings of Python go to the log: to the console now, and to the log file once there is one.

    Before the processes know each other, only the first one warns.
    """
    if distributed.is_first():
        setup()
        warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)
    else:
        warnings.simplefilter("ignore")


def write_to_file(text: str) -> None:
    """Write a line to the log file, if there is one, and not to the console."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logging.LogRecord(logger.name, logging.ERROR, "", 0, text, None, None))
