"""Warnings about a fault that lasts, such as a full disk: told at once, seldom again, and once when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

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
        """Note that it happened; ``text`` says what and why."""
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
        """Note that it does not happen any more; ``text`` says what works again."""
        if not self._count:
            return
        with self._lock:
            count, self._count = self._count, 0
        if count:
            self._logger.warning("%s again, after %d failures", text, count)
