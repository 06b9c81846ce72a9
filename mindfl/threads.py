"""Threads of one process: locks that are free again after a fork, and the number of threads that can start."""

from __future__ import annotations

import os
import threading
from contextlib import ContextDecorator
from types import TracebackType


class ProcessLock(ContextDecorator):
    """A re-entrant lock that lets one thread of a process in at a time; created once, at the top of a module.

    It can be held in a ``with`` block, or decorate a function.

    Example:
        >>> drawing = ProcessLock()
        >>> with drawing:
        ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


def startable_threads(wanted: int) -> int:
    """Return how many of ``wanted`` threads this process can start.

    If the system allows fewer, one or two are left for others.
    """
    enough = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=enough.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        return max(min(1, len(started)), len(started) - 2)
    finally:
        enough.set()
        for thread in started:
            thread.join()
    return wanted
