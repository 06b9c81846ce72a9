"""The live page's HTTP service: the page's files, a stream of events, and the clients' logs. It only reads."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mindfl.live.run_follower import RunFollower

Ended = TypeVar("Ended")
Found = TypeVar("Found")

#: seconds between two looks at the folder, while somebody watches
POLL_SECONDS = 0.4
#: seconds after which a silent stream says that it lives, and that a reader may take for what it was sent
_SILENCE_SECONDS, _READER_SECONDS = 10.0, 60.0
#: streams at a time
_MOST_STREAMS = 32
#: rounds that are read at once
_ROWS_AT_ONCE = 16
_END_SECONDS = 3.0

_SCRIPTS = (
    *("app", "charts", "client_log", "figures", "frames", "head"),
    *("heatmap", "listing", "store", "tables", "words"),
)
_FILES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "uPlot.min.css": "text/css",
    "uPlot.iife.min.js": "text/javascript",
    **dict.fromkeys((f"{name}.js" for name in _SCRIPTS), "text/javascript"),
    "icon.svg": "image/svg+xml",
}
_HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _is_own_fault(record: logging.LogRecord) -> bool:
    """A request that is no HTTP is answered so; the terminal of a job that is watched has nothing to do with it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_logger = logging.getLogger(__name__)
_logger.addFilter(_is_own_fault)


class Reader:
    """What one page has been sent so far, and the events that bring it up to date.

    ``last_id`` is the id of the last event that it got before its connection was lost; empty for a new page.
    """

    def __init__(self, last_id: str = "") -> None:
        generation, _, index = last_id.rpartition(":")
        self._generation = generation
        self._rows = int(index) + 1 if generation and index.isascii() and index.isdecimal() else 0
        self._header: dict[str, Any] | None = None
        self._progress: int | None = None

    def events(self, follower: RunFollower) -> list[bytes]:
        """Return the next events, not too many at a time; none where the page is up to date."""
        return list(self._events(follower))

    def _events(self, follower: RunFollower) -> Iterator[bytes]:
        if self._generation != follower.generation or self._rows > follower.rows:
            self._generation, self._rows, self._progress = follower.generation, 0, None
            yield _event("begin", {})
        if self._header is not follower.header:
            self._header = follower.header
            yield _event("run", follower.header)
        last = min(self._rows + _ROWS_AT_ONCE, follower.rows)
        for index in range(self._rows, last):
            row = follower.row(index)
            if row is None:
                return
            self._rows = index + 1
            yield _event("row", row, f"{self._generation}:{index}")
        if self._rows < follower.rows:
            return
        if self._progress is None or self._progress < follower.progress:
            begins = self._progress is None
            entries = follower.entries(self._progress or 0)
            self._progress = follower.progress
            yield _event("timeline", {"begins": begins, "entries": entries})


class PageService:
    """Serves the page of ``folder`` on a listening socket. Belongs to one event loop, in which it must be made."""

    def __init__(self, folder: Path) -> None:
        self._follower = RunFollower(folder)
        # Readers are answered on one thread, the folder is looked at on another, and each takes the follower in turn:
        # the event loop never waits for a disk, and wakes up only when there is something new.
        self._thread = ThreadPoolExecutor(1, "mindfl-live")
        self._follows = threading.Lock()
        self._readers = 0
        self._is_ending = False
        self._changed = asyncio.Event()
        self._watched, self._stopping = threading.Event(), threading.Event()
        self._polling: threading.Thread | None = None
        place = Path(__file__).parent / "page"
        self._files = {name: (place / name).read_bytes() for name in _FILES}
        app = web.Application(middlewares=[_only_from_here])
        app.on_response_prepare.append(_add_headers)
        app.router.add_get("/", self._file, allow_head=False)
        app.router.add_get("/events", self._stream, allow_head=False)
        app.router.add_get("/logs/{number:[0-9]{1,9}}", self._log, allow_head=False)
        app.router.add_get("/{name}", self._file, allow_head=False)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_END_SECONDS, logger=_logger
        )

    async def start(self, listening: socket.socket) -> None:
        """Answer requests on ``listening``, which becomes the service's own."""
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        loop = asyncio.get_running_loop()
        self._polling = threading.Thread(target=self._poll, args=(loop,), name="mindfl-live-poll", daemon=True)
        self._polling.start()

    async def stop(self, *, is_over: bool = False) -> None:
        """Send each page what came last, tell it that nothing follows, and end; ``is_over``: the training is over."""
        self._stopping.set()
        self._watched.set()
        if self._polling is not None:
            await self._in_thread(self._polling.join)
        self._follower.is_over = is_over
        await self._look()
        self._is_ending = True
        self._changed.set()
        await self._runner.cleanup()
        self._thread.shutdown()

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            self._watched.wait()
            if self._has_new():
                loop.call_soon_threadsafe(self._tell)

    def _has_new(self) -> bool:
        with self._follows:
            before = self._follower.version
            self._follower.poll()
            return self._follower.version != before

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _look(self) -> None:
        if await self._in_thread(self._has_new):
            self._tell()

    def _events(self, reader: Reader) -> list[bytes]:
        with self._follows:
            return reader.events(self._follower)

    async def _in_thread(self, call: Callable[..., Found], *arguments: Any) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in self._files:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], content_type=_FILES[name], charset="utf-8")

    async def _log(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        found = await self._in_thread(self._follower.log, number)
        if found is None:
            raise web.HTTPNotFound(text=f"client {number} has no log")
        text, size = found
        return web.json_response({"text": text, "bytes": size})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._readers >= _MOST_STREAMS:
            raise web.HTTPServiceUnavailable(text=f"{_MOST_STREAMS} pages are open already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        self._readers += 1
        self._watched.set()
        try:
            await self._follow(response, Reader(request.headers.get("Last-Event-ID", "")))
        except (ConnectionError, asyncio.TimeoutError):
            pass  # the page was closed, or takes nothing
        finally:
            self._readers -= 1
            if not self._readers and not self._stopping.is_set():
                self._watched.clear()
        return response

    async def _follow(self, response: web.StreamResponse, reader: Reader) -> None:
        await self._look()
        while True:
            changed, is_ending = self._changed, self._is_ending
            events = await self._in_thread(self._events, reader)
            if events:
                await _sent(response, b"".join(events))
            elif is_ending:
                await _sent(response, _event("end", {}))
                return
            else:
                try:
                    await asyncio.wait_for(changed.wait(), _SILENCE_SECONDS)
                except asyncio.TimeoutError:
                    await _sent(response, b": still here\n\n")


async def _sent(response: web.StreamResponse, content: bytes) -> None:
    """Send; where the reader is slow wait for it, so that nothing piles up here."""
    await asyncio.wait_for(response.write(content), _READER_SECONDS)


def _event(kind: str, value: dict[str, Any], number: str = "") -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    identity = f"id: {number}\n" if number else ""
    return f"event: {kind}\n{identity}data: {text}\n\n".encode(errors="replace")


@web.middleware
async def _only_from_here(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse requests under another host's name: a page elsewhere may let its own name point to 127.0.0.1."""
    host, _, port = request.headers.get("Host", "").partition(":")
    if host not in _HOSTS or not (port == "" or port.isdecimal()):
        raise web.HTTPForbidden(text="this page is for http://127.0.0.1 and http://localhost only")
    answered: web.StreamResponse = await handler(request)
    return answered


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def served(
    folder: Path,
    listening: socket.socket,
    end: Callable[[], Awaitable[Ended]],
    ready: Callable[[], None],
    *,
    with_job: bool = False,
) -> Ended:
    """Serve the page of ``folder`` until ``end`` has happened; return what it returned.

    ``with_job``: the end is that of the job, so what does not say that it has ended was stopped.
    """
    service = PageService(folder)
    await service.start(listening)
    try:
        ready()
        return await end()
    finally:
        await service.stop(is_over=with_job)
