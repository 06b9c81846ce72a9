"""Ending a server in good order on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mindfl.errors import OptionError

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Notes the first of the signals that stop a server; a second one ends the process at once."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._waiting: asyncio.Future[signal.Signals] | None = None

    def future(self) -> asyncio.Future[signal.Signals]:
        """Return what is done in the running event loop when the signal comes, or has come."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._settle()
        return self._waiting

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle signal ``number``."""
        if self._received is not None:
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if self._waiting is not None and not (loop := self._waiting.get_loop()).is_closed():
            loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if self._received is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._received)


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Yield what notes SIGTERM and SIGINT within the block, unless they are ignored; then put the handlers back.

    Raises :class:`OptionError` outside the main thread, where Python takes no signals, and within a running event loop,
    such as a notebook's, which could not run a server's beside it.
    """
    if asyncio._get_running_loop() is not None:
        raise OptionError(
            "a server cannot be run within a running event loop", hint="start it in a process of its own: mindfl server"
        )
    stopping = StopSignal()
    previous = {number: signal.getsignal(number) for number in _STOPPING}
    handled = [number for number, handler in previous.items() if handler is not signal.SIG_IGN]
    try:
        for number in handled:
            signal.signal(number, stopping.note)
    except ValueError:
        raise OptionError("a server can be run from the main thread of a process only") from None
    try:
        yield stopping
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL if previous[number] is None else previous[number])
