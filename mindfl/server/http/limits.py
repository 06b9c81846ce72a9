"""How long a client may take over each part of an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

HEADER_SECONDS = 30.0
"""How long the headers of a request may take to arrive, counted from their first byte."""
IDLE_SECONDS = 3600.0
"""How long a connection may be open without a request."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is thrown away, so that the client can read why."""
PATIENCE_SECONDS = 30.0
SLOWEST = 16 * 1024
"""A body may take ``PATIENCE_SECONDS``, and a second more for each of these bytes."""


def patience(size: int) -> float:
    """Return how many seconds a body of ``size`` bytes may take."""
    return PATIENCE_SECONDS + size / SLOWEST


class TimeLimit:
    """Calls ``passed`` when the limit set last has passed. Belongs to one event loop.

    Setting a limit that ends later than the one before costs next to nothing: the timer moves on when it goes off.
    """

    def __init__(self, passed: Callable[[str, float], None]) -> None:
        self._passed = passed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._end: float | None = None
        self._seconds = 0.0
        self._what = ""

    def set(self, seconds: float, what: str = "") -> None:
        """Call ``passed(what, seconds)`` unless another limit, or none, is set within ``seconds``."""
        self._end = self._loop.time() + seconds
        self._seconds, self._what = seconds, what
        if self._timer is not None and self._timer.when() > self._end:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._end, self._due)

    def lift(self) -> None:
        """Set no limit."""
        self._end = None

    def close(self) -> None:
        """Lift the limit for good."""
        self._end = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._end is None:
            return
        if self._loop.time() < self._end:
            self._timer = self._loop.call_at(self._end, self._due)
        else:
            self._end = None
            self._passed(self._what, self._seconds)
