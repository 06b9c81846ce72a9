"""What tests of hostile clients share: a connection fed to the byte, and a server of a process of its own.

As a program: serves a job with at most as many open files as the argument says, prints its address, and answers each
line on its input with the number of files that are open.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from http_requests import coordinator

from mindfl.server.http import BackgroundServer, DeviceFront, VolatileJob
from mindfl.server.http.connection import Connection
from mindfl.server.http.service import Front, HttpServer
from mindfl.server.http.workers import Workers
from mindfl.server.iteration import Clock

TURNS = 200
"""Turns of the event loop that are more than enough for a connection to come to rest."""


def device_front() -> DeviceFront:
    """Return what answers devices, in the running event loop."""
    return DeviceFront(Workers(VolatileJob(coordinator())), prefix="", clock=Clock())


class Wire(asyncio.Transport):
    """Stands in for a connected socket: the test decides which bytes come together, and when the client is gone."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__({"peername": ("stand-in", 1), "socket": SimpleNamespace(fileno=lambda: 0)})
        self.connection = Connection(server)
        self.sent = bytearray()
        self.writes = 0
        self.reading = True
        self.closed = False
        self.connection.connection_made(self)

    async def feed(self, pieces: Iterable[bytes]) -> int:
        """Deliver ``pieces`` one after the other; return how many bytes were taken before the connection closed."""
        taken = 0
        for piece in pieces:
            while piece:
                await self.rest(until_reading=True)
                if self.closed or not self.reading:
                    return taken
                room = self.connection.get_buffer(-1)
                part, piece = piece[: len(room)], piece[len(room) :]
                room[: len(part)] = part
                self.connection.buffer_updated(len(part))
                taken += len(part)
        await self.rest()
        return taken

    async def rest(self, *, until_reading: bool = False) -> None:
        """Let the server do what it has to do."""
        for _ in range(TURNS):
            if until_reading and (self.reading or self.closed):
                return
            await asyncio.sleep(0)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        self.sent += data
        self.writes += 1

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    abort = close


async def exchange(pieces: Iterable[bytes], front: Front | None = None) -> Wire:
    """Deliver ``pieces`` to a connection of a new server; return the wire when it has come to rest."""
    wire = Wire(HttpServer(front or device_front()))
    await wire.feed(pieces)
    return wire


def answers(sent: bytes, methods: Sequence[str] | None = None) -> list[tuple[int, bytes]]:
    """Return status and body of all answers, with ``methods`` those of the requests; interim ones are left out."""
    found: list[tuple[int, bytes]] = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            continue
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        without = methods is not None and methods[len(found)] == "HEAD"
        found.append((status, b"" if without else sent[:length]))
        sent = sent[0 if without else length :]
    return found


@contextmanager
def no_faults(level: int = logging.ERROR) -> Iterator[None]:
    """Fail where anything of this level is logged, by asyncio too."""
    faults: list[str] = []

    class Faults(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            faults.append(f"{record.name}: {record.getMessage()}")

    handler = Faults(level)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert faults == []


def main(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    logging.basicConfig(level=logging.WARNING)
    with BackgroundServer(coordinator()) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(sum(1 for _ in Path("/proc/self/fd").iterdir()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
