"""How long a client may take over each part of an exchange, and how many connections this process may hold."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from contextlib import suppress

HEADER_SECONDS = 30.0
"""How long the headers of a request may take to arrive, counted from their first byte."""
IDLE_SECONDS = 3600.0
"""How long a connection may be open without a request."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is thrown away, so that the client can read why."""
PATIENCE_SECONDS = 30.0
SLOWEST = 16 * 1024
"""A body may take ``PATIENCE_SECONDS``, and a second more for each of these bytes."""

_KEPT_FILES = 64
"""Files that connections leave to the journal, the models and the rest of the process."""
_MOST_AT_ONCE = 256
"""With 8 at a time the 3,500 devices of the load benchmark take 14 % longer; with more than this no less."""


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


def crowded(opened: socket.socket) -> bool:
    """Whether ``opened``, a new connection, would leave too few files to the rest of the process."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A new file gets the lowest number that is free.
    # Some more are accepted before the first of too many is closed.
    kept = min(_KEPT_FILES + 4 * accepted_at_once(), soft // 4)
    return soft != resource.RLIM_INFINITY and opened.fileno() >= soft - kept


def accepted_at_once() -> int:
    """Return how many connections may be accepted before those that are too many are closed."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_AT_ONCE if soft == resource.RLIM_INFINITY else min(_MOST_AT_ONCE, max(1, soft // 64))


def allow_many_connections() -> None:
    """Raise this process's limit of open files as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
