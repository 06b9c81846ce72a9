"""A write-ahead journal: records are appended at once and made durable together.

``append`` hands a record to the operating system, so that it survives the death of this process. A thread flushes all
records appended meanwhile to the disk with one fdatasync (group commit). Only then the future of
:meth:`Journal.durable` is done, so an acknowledged record survives a power loss too.

The journal begins a new file at the end of an iteration. A file is removed once a snapshot makes it superfluous.
A *position* counts the bytes of all records ever appended, so it grows from file to file.
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from mindfl.errors import StorageError
from mindfl.server.reports import LastingFault
from mindfl.server.segment import (
    HEAD_SIZE,
    SYNCED,
    BadRecordError,
    Record,
    Segment,
    damaged,
    synced_position,
    synced_record,
)

if TYPE_CHECKING:
    from mindfl.server.storage import StateFolder

_log = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""How long records are gathered for one flush: a flush for each record slows uploads down."""
_MOST_PARTS = 1000  # Linux takes 1024 buffers in one call

Replay = Callable[[int, bytes], None]


class Journal:
    """The journal of ``job`` (16 bytes) in ``folder``, from the position ``start`` on.

    Opening calls ``replay(kind, payload)`` for each record from ``start`` on. A torn end is cut off: ``cut`` is its
    length in bytes. After a crash or a power loss it holds no acknowledged record; it may hold one where a disk loses
    flushed data or a file was shortened. Raises :class:`StorageError` where a file cannot be read or written, or where
    a later record proves that the damaged one had been flushed.
    """

    def __init__(self, folder: StateFolder, job: bytes, start: int, replay: Replay) -> None:
        self._folder = folder
        self._job = job
        self._segments = Segment.find(folder.path, job)
        self.cut = 0
        self._end = self._recover(start, replay)
        self._file = self._open_last()
        self._durable = self._wanted = self._end
        self._retired: list[int] = []
        self._waiting: list[tuple[int, int, Future[None]]] = []
        self._numbers = count()
        self._failure: StorageError | None = None
        self._refusing = LastingFault(_log)
        self._closing = False
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._flush_forever, name="journal", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """The end of the last record."""
        return self._end

    def append(self, record: Record, *, vital: bool = False) -> int:
        """Write the record and return the position after it.

        A ``vital`` record may use the disk space that the folder has set aside, others are refused while there is none.
        Raises :class:`StorageError` if it cannot be written, and then the journal is as before.
        """
        with self._changed:
            if self._failure:
                raise self._failure
            try:
                self._append(record, vital)
            except StorageError as error:
                self._refusing.occurred(f"{error.line()}: devices are refused until there is room")
                raise
            self._refusing.over(f"{self._folder.path} can be written")
            return self._end

    def _append(self, record: Record, vital: bool) -> None:
        try:
            if not (vital or self._folder.reserve()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._write(record)
        except OSError as error:
            if not (vital and self._folder.reserved):
                raise self._write_error(error) from None
            self._write_into_reserve(record)

    def durable(self, position: int) -> Future[None] | None:
        """Flush everything before ``position``; return None if that is done, else a future that ends with it.

        The future raises :class:`StorageError` if the disk fails. Then it is unknown which records are stored, so
        nothing more is accepted: end the process and recover.
        """
        with self._changed:
            if position <= self._durable:
                return None
            future: Future[None] = Future()
            if self._failure:
                future.set_exception(self._failure)
                return future
            heapq.heappush(self._waiting, (position, next(self._numbers), future))
            self._wanted = max(self._wanted, position)
            self._changed.notify()
            return future

    def rotate(self) -> int:
        """Begin a new file, or continue in the present one where that is impossible; return the position."""
        with self._changed:
            if self._end > self._segments[-1].base:
                try:
                    segment = self._create()
                    file = _open(segment)
                except StorageError as error:
                    _log.warning("%s", error.line())
                else:
                    self._retired.append(self._file)
                    self._segments.append(segment)
                    self._file = file
            return self._end

    def drop_before(self, position: int) -> None:
        """Remove the files that hold nothing from ``position`` on."""
        with self._changed:
            while len(self._segments) > 1 and self._segments[1].base <= position:
                with suppress(OSError):
                    self._segments[0].path.unlink(missing_ok=True)
                del self._segments[0]

    def close(self) -> None:
        """Flush everything and end. A failing disk is reported by the futures of ``durable`` alone."""
        with self._changed:
            self._wanted = self._end
            self._closing = True
            self._ending.set()
            self._changed.notify()
        self._thread.join()
        self._failure = self._failure or StorageError(f"the journal in {self._folder.path} is closed")
        for file in (*self._retired, self._file):
            os.close(file)

    def _recover(self, start: int, replay: Replay) -> int:
        position = start
        for index, segment in enumerate(self._segments):
            following = self._segments[index + 1].base if index + 1 < len(self._segments) else None
            if following is not None and following <= start:
                continue
            if segment.base > position:
                raise StorageError(
                    f"the journal in {self._folder.path} lacks what came before {segment.path.name}",
                    hint="restore the state folder from a backup, or begin anew in another one",
                )
            try:
                for end, kind, payload in segment.records(max(position, segment.base)):
                    if kind != SYNCED:
                        replay(kind, payload)
                    elif synced_position(payload) > position:
                        # It vouches for records before it alone: one of them is gone.
                        raise damaged(segment.path, segment.offset(position))
                    position = end
            except BadRecordError as bad:
                return self._cut_off(index, bad.position)
            if following is not None and position < following:
                return self._cut_off(index, position)
        if start and not self._segments:
            raise StorageError(
                f"the journal in {self._folder.path} is missing", hint="restore the state folder from a backup"
            )
        return position

    def _cut_off(self, index: int, position: int) -> int:
        """Remove everything from ``position`` on, which lies in file ``index``, unless some of it was flushed."""
        segment = self._segments[index]
        if any(each.vouches_for(position) for each in self._segments[index:]):
            raise damaged(segment.path, segment.offset(position))
        try:
            for later in self._segments[index + 1 :]:
                self.cut += later.path.stat().st_size
                later.path.unlink()
            self.cut += segment.path.stat().st_size - segment.offset(position)
            os.truncate(segment.path, segment.offset(position))
        except OSError as error:
            raise StorageError.from_os_error(error, "cut off the torn end of", segment.path) from None
        del self._segments[index + 1 :]
        return position

    def _open_last(self) -> int:
        if not self._segments:
            self._segments.append(self._create())
        # Replayed records are acknowledged from now on, but a killed predecessor may not have flushed them.
        for segment in self._segments[:-1]:
            os.close(_open_flushed(segment))
        return _open_flushed(self._segments[-1])

    def _create(self) -> Segment:
        segment = Segment.create(self._folder.path, self._job, self._end)
        self._folder.sync()
        return segment

    def _write(self, record: Record) -> None:
        segment = self._segments[-1]
        buffers = [memoryview(segment.head(record)), *(memoryview(part) for part in record.parts)]
        start = offset = segment.offset(self._end)
        try:
            while buffers:
                written = os.pwritev(self._file, buffers[:_MOST_PARTS], offset)
                offset += written
                buffers = _rest(buffers, written)
        except OSError:
            # The rest of the record would be overwritten or cut off later, but takes space now.
            with suppress(OSError):
                os.ftruncate(self._file, start)
            raise
        self._end += HEAD_SIZE + record.length

    def _write_into_reserve(self, record: Record) -> None:
        self._folder.release()
        try:
            self._write(record)
        except OSError as error:
            raise self._write_error(error) from None

    def _write_error(self, error: OSError) -> StorageError:
        return StorageError.from_os_error(error, "write", self._segments[-1].path)

    def _flush_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted > self._durable or self._closing)
                if self._wanted <= self._durable:
                    return
            # Not waited for by ``_changed``, which every append would wake.
            self._ending.wait(GATHER_SECONDS)
            with self._changed:
                target, retired = self._end, self._retired
                files = [*retired, self._file]
                self._retired = []
            try:
                # In order: nothing in a later file may be vouched for before the files before it are safe.
                for file in files:
                    os.fdatasync(file)
            except OSError as error:
                self._fail(error)
                return
            finally:
                for file in retired:
                    os.close(file)
            self._flushed(target)

    def _flushed(self, target: int) -> None:
        done = []
        with self._changed:
            self._durable = target
            while self._waiting and self._waiting[0][0] <= target:
                done.append(heapq.heappop(self._waiting)[2])
            # Without this note nothing is lost; with it, later damage can be told from an unfinished write.
            with suppress(OSError):
                self._write(synced_record(target))
        for future in done:
            _settle(future, None)

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self._failure = self._write_error(error)
            waiting, self._waiting = self._waiting, []
            failure = self._failure
        _log.error("%s", failure.line())
        for _, _, future in waiting:
            _settle(future, failure)


def _settle(future: Future[None], failure: StorageError | None) -> None:
    # A future that its waiter has cancelled (a device that hung up) takes no result.
    if future.set_running_or_notify_cancel():
        if failure:
            future.set_exception(failure)
        else:
            future.set_result(None)


def _open(segment: Segment) -> int:
    try:
        return os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError.from_os_error(error, "open", segment.path) from None


def _open_flushed(segment: Segment) -> int:
    file = _open(segment)
    try:
        os.fsync(file)
    except OSError as error:
        os.close(file)
        raise StorageError.from_os_error(error, "write", segment.path) from None
    return file


def _rest(buffers: list[memoryview], written: int) -> list[memoryview]:
    """Return the rest of ``buffers`` after ``written`` bytes."""
    for index, buffer in enumerate(buffers):
        if written < len(buffer):
            return [buffer[written:], *buffers[index + 1 :]]
        written -= len(buffer)
    return []
