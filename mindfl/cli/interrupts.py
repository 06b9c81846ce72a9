"""Signals that end a command: ``KeyboardInterrupt`` while it works, ignored when its exit code is known.

Python handles a signal between any two steps of the main thread. If such a step would leave a lock held forever, or
release one that is not held, the signal is raised again a moment later.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RETRY_SECONDS = 0.05
_SAME_SIGNAL_SECONDS = 1.0
#: module -> functions that take or give back a lock for a ``with`` block or a ``try``
_LOCKING = {
    "threading": ("__enter__", "__exit__", "_release_save", "_acquire_restore"),
    "concurrent.futures._base": ("__enter__", "__exit__"),
    "logging": ("acquire", "release"),
    "mindfl.system": ("__enter__", "__exit__"),
}
_WAIT = threading.Condition.wait.__code__


class Interrupts:
    """Installs handlers for the signals that end a command; ignored signals stay ignored.

    SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt``. A second signal within a second is ignored, so that it does
    not interrupt the cleanup: a terminal and a parent process may both send one. If a destructor or a C callback
    swallows the exception, or a lock is changing hands, SIGALRM raises it again.
    """

    def __init__(self) -> None:
        self._settled = False
        self._exit_code: int | None = None
        self._last = -math.inf
        self._hook = sys.unraisablehook
        self._previous: dict[int, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            return  # Python takes signals in the main thread only
        for number in (*_ENDING, signal.SIGALRM):
            if (previous := signal.getsignal(number)) is not signal.SIG_IGN:
                self._previous[number] = signal.SIG_DFL if previous is None else previous
                signal.signal(number, self._retry if number == signal.SIGALRM else self._interrupt)

    def settle(self) -> None:
        """Stop raising: the command has ended."""
        self._settled = True
        # An interrupt in code that is compiled from a text, as dataclasses do, would end Python by SIGINT in the end,
        # although it was handled. It forgets that with the next text.
        eval("None")

    def restore(self) -> None:
        """Restore the previous handlers."""
        sys.unraisablehook = self._hook
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def leave(self, exit_code: int) -> None:
        """Let a signal end the process at once with ``exit_code``, until Python drops its handlers; then ignore it.

        To be called when nothing is left to be written: the last that a command of its own process does.
        """
        self._exit_code = exit_code
        # Python restores the default action, death, long before it has unloaded its modules.
        atexit.register(self._ignore)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        same, self._last = now - self._last < _SAME_SIGNAL_SECONDS, now
        if not same or self._settled:
            self._raise(frame)

    def _retry(self, number: int, frame: FrameType | None) -> None:
        self._raise(frame)

    def _raise(self, frame: FrameType | None) -> None:
        if self._exit_code is not None:
            os._exit(self._exit_code)
        if self._settled:
            return
        if frame is not None and _is_locking(frame):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
        else:
            # Interrupted constructors leave objects whose destructors fail; these errors are hidden.
            sys.unraisablehook = _insist
            raise KeyboardInterrupt

    def _ignore(self) -> None:
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)


def is_interrupted(error: BaseException) -> bool:
    """Return whether ``error`` is ``KeyboardInterrupt``, or came up while one was passed on.

    Code that is interrupted may fail otherwise on its way out.
    """
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, KeyboardInterrupt):
            return True
        if one not in seen:
            seen.append(one)
            todo += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
    return False


def _is_locking(frame: FrameType) -> bool:
    """Return whether a lock is changing hands in ``frame``."""
    if frame.f_code is _WAIT:  # its local variable "gotit" is set just before the try that takes the lock again
        return "gotit" not in frame.f_locals
    return frame.f_code.co_name in _LOCKING.get(frame.f_globals.get("__name__", ""), ())


def _insist(lost: sys.UnraisableHookArgs) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
