"""Ending a server in good order on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import os
import signal

from mindfl.errors import OptionError


def stop_signal() -> asyncio.Future[signal.Signals]:
    """Return what is done when the first of the signals comes; a second one ends the process at once.

    Raises :class:`OptionError` outside the main thread, where Python takes no signals.
    """
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[signal.Signals] = loop.create_future()
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _settle, stopping, number)
    except (RuntimeError, ValueError):
        raise OptionError("a server can be run from the main thread of a process only") from None
    return stopping


def _settle(stopping: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if stopping.done():
        os._exit(128 + number)
    stopping.set_result(number)
