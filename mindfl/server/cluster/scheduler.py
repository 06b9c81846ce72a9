"""The scheduler of a job: its management address, in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mindfl.files import PathLike
from mindfl.server.cluster.forward import LeaderLine, ManagementForward
from mindfl.server.cluster.store import find_store, leader_tls, reach
from mindfl.server.http import Address, Listeners, bound_address, listen
from mindfl.server.running import StopSignal, stop_signal
from mindfl.server.server_tls import ServerTls, load_tls
from mindfl.server.settings import read_settings
from mindfl.server.start_options import unused_password
from mindfl.spelling import checked_arguments

_logger = logging.getLogger("mindfl.server")


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class SchedulerOptions:
    """Arguments of ``mindfl server scheduler``; see :class:`mindfl.server.start_options.ServerOptions`."""

    config: PathLike
    manage_address: str
    password: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)


def run_scheduler(options: SchedulerOptions, *, ready: Callable[[str], None]) -> signal.Signals:
    """Answer on the management address until SIGTERM or SIGINT, and return the signal. Needs the Redis to start,
    but no server.

    ``ready`` is given the URL once requests are accepted. Raises :class:`OptionError` for settings and addresses that
    cannot be used, :class:`StorageError` for files and folders.
    """
    settings = read_settings(options.config, options.overrides)
    for warning in unused_password(options.password, settings):
        _logger.warning("warning: %s", warning)
    tls = ServerTls.from_settings(settings, options.password)
    context = load_tls(tls).context if tls else None
    address = Address.parse(options.manage_address, "--manage_address")
    store, internal = find_store(settings), leader_tls(settings)
    sockets = listen(address, "--manage_address")

    async def run(stop: StopSignal) -> signal.Signals:
        stopping = stop.future()
        listeners = Listeners()
        line = LeaderLine(store.leader, tls=internal)
        try:
            starting = asyncio.create_task(reach(store))
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                return await stopping
            starting.result()
            await listeners.serve(ManagementForward(line, store, settings.fl_name), sockets, context)
            ready(f"{'https' if context else 'http'}://{bound_address(sockets[0])}")
            return await stopping
        finally:
            await listeners.stop()
            await line.close()

    try:
        with stop_signal() as stop:
            return asyncio.run(run(stop))
    finally:
        for listening in sockets:
            listening.close()
