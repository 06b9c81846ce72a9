"""Signals that end a command: ``KeyboardInterrupt`` while it works, ignored when its exit code is known."""

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


class Interrupts:
    """Installs handlers for the signals that end a command; ignored signals stay ignored.

    SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt``. A second signal within a second is ignored, so that it does
    not interrupt the cleanup: a terminal and a parent process may both send one. If a destructor or a C callback
    swallows the exception, SIGALRM raises it again.
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
            self._raise()

    def _retry(self, number: int, frame: FrameType | None) -> None:
        self._raise()

    def _raise(self) -> None:
        if self._exit_code is not None:
            os._exit(self._exit_code)
        if not self._settled:
            # Interrupted constructors leave objects whose destructors fail; these errors are hidden.
            sys.unraisablehook = _insist
            raise KeyboardInterrupt

    def _ignore(self) -> None:
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)


def _insist(lost: sys.UnraisableHookArgs) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
