"""TensorBoard's event files of a run: one for each start of it, written a whole round at a time."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mindfl.errors import StorageError
from mindfl.files import append_to, atomic_path, make_dir, open_file, remove_file

if TYPE_CHECKING:
    # messages of TensorBoard's protocol; the generated classes have no static types
    Event = Any
    Summary = Any

#: folder of the event files in a work folder
FOLDER = "tensorboard"
#: ends the names of mindfl's files: other programs may have theirs in the folder
_SUFFIX = ".mindfl"
_PATTERN = f"events.out.tfevents.*{_SUFFIX}"
#: bytes around the data of a record: its length with a checksum before, a checksum behind
_BEFORE, _BEHIND = 12, 4


class EventFile:
    """A new event file in the folder ``tensorboard`` of the work folder ``run``.

    Records are appended at once, so that a killed process leaves whole ones.

    Raises :class:`StorageError` if the file cannot be written.
    """

    def __init__(self, run: Path) -> None:
        folder = make_dir(run / FOLDER)
        # TensorBoard reads the files in the order of their names.
        latest = max((int(path.name.split(".")[3]) for path in event_files(run)), default=0)
        moment = max(int(time.time()), latest + 1)
        self.path = folder / f"events.out.tfevents.{moment:010}.{socket.gethostname()}.{os.getpid()}{_SUFFIX}"
        self._write([_event(file_version="brain.Event:2")])

    def add(self, step: int, summaries: Sequence[Summary]) -> None:
        """Append the summaries of a round."""
        self._write([_event(step=step, summary=summary) for summary in summaries])

    def _write(self, events: Sequence[Event]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        content = io.BytesIO()
        records = RecordWriter(content)
        for event in events:
            records.write(event.SerializeToString())
        append_to(self.path, content.getvalue())


def _event(**fields: Any) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), **fields)


def event_files(run: Path) -> list[Path]:
    """Return mindfl's event files in the work folder ``run``, the oldest first."""
    return sorted((run / FOLDER).glob(_PATTERN))


def remove_event_files(run: Path) -> None:
    """Remove mindfl's event files in the work folder ``run``. Raises :class:`StorageError`."""
    for path in event_files(run):
        remove_file(path)


def keep_events(run: Path, kept: Callable[[Event], bool]) -> None:
    """Leave in the event files of the work folder ``run`` what ``kept`` accepts, and nothing after a damaged record.

    Each file is replaced as a whole. Raises :class:`StorageError`.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    for path in event_files(run):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            for record in _records(path):
                event = Event.FromString(record[_BEFORE:-_BEHIND])
                if event.file_version or kept(event):
                    file.write(record)


def _records(path: Path) -> Iterator[bytes]:
    """Yield the records of an event file, with lengths and checksums, up to one that is cut off or damaged."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            while len(before := file.read(_BEFORE)) == _BEFORE:
                length = int.from_bytes(before[:8], "little")
                if length > size - file.tell() - _BEHIND:
                    return
                data = file.read(length)
                behind = file.read(_BEHIND)
                if masked_crc32c(data) != int.from_bytes(behind, "little"):
                    return
                yield before + data + behind
    except OSError as error:
        raise StorageError.from_os_error(error, "read", path) from None
