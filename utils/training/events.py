"""TensorBoard events, written at once; a full disk costs events, never the run."""

import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from utils.logging import logger


class Position(TypedDict):
    """A place in an event file."""

    file: str
    bytes: int


class EventWriter:
    """Appends events to one file in `folder`.

    With the `position` of an earlier run, its file is continued from there: later events are removed. A
    warning says so if that file is not there. Every event is handed to the system when it is added. An event
    that cannot be written is dropped, and one warning says so. A file that someone removes is begun anew.
    """

    def __init__(self, folder: Path, position: Position | None = None) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        if position and (folder / position["file"]).is_file():
            name = position["file"]
        elif position and position["bytes"]:
            logger.warning(
                "the earlier events, %s, are not in %s: its curves lack them", position["file"], folder
            )
        self.path, self.size, self.dropped = folder / name, 0, 0
        self.file: BinaryIO | None = None
        self._open(position["bytes"] if position and position["file"] == name else None)

    def _open(self, size: int | None = None) -> None:
        """Open the file, which is made; of one that is there keep the whole events within `size` bytes."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab", buffering=0)
            if size is not None:
                there = self.path.stat().st_size >= size
                self.size = size if there else whole_records(self.path, size)
                self.file.truncate(self.size)
        except OSError as error:
            self._drop(error)
        if not self.size:
            self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _begin_anew(self) -> None:
        logger.warning("%s was removed: its curves lack what was before", self.path)
        self.close()
        self.size = 0
        self._open()

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        self._add(summary.scalar(tag, value), step)

    def add_image(self, tag: str, picture: Any, step: int) -> None:
        """Add a picture (3, H, W) or (1, H, W): uint8, or float from 0 to 1."""
        self._add(summary.image(tag, picture), step)

    def add_text(self, tag: str, text: str, step: int = 0) -> None:
        """Add a text in Markdown."""
        self._add(summary.text(tag, text), step)

    def position(self) -> Position:
        """Return the place after the last event; all before it is on disk then, as a checkpoint will be."""
        if self.file:
            try:
                self.path.stat()
                os.fsync(self.file.fileno())
            except FileNotFoundError:
                self._begin_anew()
            except OSError:  # of a full disk
                pass
        return {"file": self.path.name, "bytes": self.size}

    def close(self) -> None:
        if self.file:
            self.file.close()
            self.file = None

    def _add(self, content: Any, step: int) -> None:
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=content))

    def _write(self, event: Any) -> None:
        if self.file is None:
            return
        data = event.SerializeToString()
        header = struct.pack("<Q", len(data))
        record = header + struct.pack("<I", masked_crc32c(header))
        record += data + struct.pack("<I", masked_crc32c(data))
        try:
            left = memoryview(record)
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            self._drop(error)
        else:
            self.size += len(record)

    def _drop(self, error: OSError) -> None:
        """Warn once, and remove the part of the event that was written."""
        if not self.dropped:
            logger.warning("TensorBoard events are left out from now on, training goes on: %s", error)
        self.dropped += 1
        if self.file:
            with suppress(OSError):
                self.file.truncate(self.size)


class NoWriter:
    """Has the methods of EventWriter, which do nothing: for processes that write no events."""

    def add_scalar(self, tag: str, value: float, step: int) -> None: ...

    def add_image(self, tag: str, picture: Any, step: int) -> None: ...

    def add_text(self, tag: str, text: str, step: int = 0) -> None: ...

    def position(self) -> Position:
        return {"file": "", "bytes": 0}

    def close(self) -> None: ...


def whole_records(path: Path, limit: int) -> int:
    """Return the length in bytes of the whole records within the first `limit` bytes of an event file."""
    end, size = 0, min(limit, path.stat().st_size)
    with path.open("rb") as file:
        while end + 12 <= size:
            file.seek(end)
            (length,) = struct.unpack("<Q", file.read(8))
            if end + length + 16 > size:
                break
            end += length + 16
    return end
