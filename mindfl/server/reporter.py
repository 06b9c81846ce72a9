"""What is done with the record of each ended iteration, in a thread of its own so that no device waits for a disk."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from mindfl.errors import StorageError
from mindfl.server.iteration import IterationRecord
from mindfl.server.lasting import LastingFault

logger = logging.getLogger("mindfl.server")

Sink = Callable[[IterationRecord], None]


class Reporter:
    """Hands records to ``sinks``, in order. Where one fails, a warning says so; the job and the other sinks go on."""

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
