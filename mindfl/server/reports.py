"""Reports of a running server: records of ended iterations to files and hooks, and lasting faults to the log."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from mindfl.errors import StorageError
from mindfl.server.iteration import IterationRecord
from mindfl.spelling import counted

logger = logging.getLogger("mindfl.server")

#: takes the record of an ended iteration
Sink = Callable[[IterationRecord], None]

FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0


class LastingFault:
    """Tells ``logger`` of a fault, again after 1, 2, 4, ... minutes (at most an hour), and of its end.

    May be used by several threads. ``now`` is a clock in seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.Lock()
        self._count = 0
        self._next = self._pause = 0.0

    def occurred(self, text: str) -> None:
        """Note that it happened; ``text`` is the warning."""
        with self._lock:
            self._count += 1
            now = self._now()
            if self._count > 1 and now < self._next:
                return
            again = f" ({self._count} times so far)" if self._count > 1 else ""
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS) if self._count > 1 else FIRST_PAUSE_SECONDS
            self._next = now + self._pause
        self._logger.warning("%s%s", text, again)

    def over(self, text: str) -> None:
        """Note that it has ended; ``text`` begins the message that it works again."""
        if not self._count:
            return
        with self._lock:
            count, self._count = self._count, 0
        if count:
            self._logger.warning("%s again, after %s", text, counted(count, "failure"))


class ServerReporter:
    """Hands records to ``sinks``, in order, in a thread of its own, so that no client waits for a disk.

    Where a sink fails, a warning says so; the job and the other sinks continue.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = [(sink, LastingFault(logger)) for sink in sinks]
        self._actions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mindfl-reporter", daemon=True)
        self._thread.start()

    def __call__(self, record: IterationRecord) -> None:
        """Take in a record; returns at once."""
        self._actions.put(lambda: self._hand_on(record))

    def then(self, action: Callable[[], None]) -> None:
        """Run ``action`` between the records taken in before and those to come."""
        self._actions.put(action)

    def close(self) -> None:
        """Return when all records have been handed on."""
        self._actions.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (action := self._actions.get()) is not None:
            action()

    def _hand_on(self, record: IterationRecord) -> None:
        for sink, fault in self._sinks:
            try:
                sink(record)
            except StorageError as error:
                fault.occurred(error.line())
            else:
                fault.over("what could not be written about iterations is written")
