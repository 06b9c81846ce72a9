"""The program of the process that serves the live page beside a job. Its standard input ends when the job does."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from mindfl.live.page_service import served

#: training goes first
_NICE = 5


def main() -> None:
    """Serve the page of the folder in the arguments, on the socket that was handed over, until the job ends."""
    _, _, handle, folder = sys.argv
    with suppress(OSError):
        os.nice(_NICE)
    listening = socket.socket(fileno=int(handle))
    asyncio.run(served(Path(folder), listening, _job_ended, lambda: None, with_job=True))


async def _job_ended() -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        if not os.read(0, 1024) and not ended.done():
            ended.set_result(None)

    loop.add_reader(0, read)
    try:
        await ended
    finally:
        loop.remove_reader(0)
