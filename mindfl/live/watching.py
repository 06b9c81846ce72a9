"""``mindfl watch``: serves the live page of a folder until it is stopped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from signal import Signals

from mindfl.errors import OptionError
from mindfl.live.page_service import served
from mindfl.options import options_of
from mindfl.options.command_options import WatchOptions
from mindfl.server.http.sockets import Address, bound_address, listen
from mindfl.server.running import stop_signal

HOST = "127.0.0.1"


def watch(folder: Path, live_port: int, *, ready: Callable[[str], None]) -> Signals:
    """Serve the page of the run in ``folder`` until SIGTERM, SIGINT or SIGHUP comes, and return that signal.

    ``ready`` is given the page's address. Raises :class:`OptionError` if ``folder`` is no folder, or if the port cannot
    be had.
    """
    if not folder.is_dir():
        raise OptionError(f"there is no folder {folder}", hint="name the --work_dir of a run")
    with stop_signal() as stopping, listening_on(live_port) as listening:

        async def serve() -> Signals:
            return await served(folder, listening, lambda: stopping.future(), lambda: ready(address(listening)))

        return asyncio.run(serve())


def listening_on(live_port: int) -> socket.socket:
    """Return a socket that listens on this machine only; port 0: any free one. Raises :class:`OptionError`."""
    port = options_of(WatchOptions)["live_port"].check(live_port)
    return listen(Address(HOST, port), "--live_port")[0]


def address(listening: socket.socket) -> str:
    """Return the address of the page that is served on this socket."""
    return f"http://{bound_address(listening)}/"
