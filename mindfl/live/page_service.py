"""The live page's HTTP service: the page's files, a stream of events, and the clients' logs. It only reads."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from aiohttp import web
from aiohttp.http import HttpProcessingError

from mindfl.live.readers import RunReader, SweepReader, event
from mindfl.live.run_follower import RunFollower
from mindfl.live.run_header import holds_run
from mindfl.live.sweep_follower import SweepFollower, is_sweep

Ended = TypeVar("Ended")
Found = TypeVar("Found")
Follower: TypeAlias = RunFollower | SweepFollower

#: seconds between two looks at the folder, while somebody watches
POLL_SECONDS = 0.4
#: seconds after which a silent stream says that it lives, and that a reader may take for what it was sent
_SILENCE_SECONDS, _READER_SECONDS = 10.0, 60.0
#: streams at a time
_MOST_STREAMS = 32
_END_SECONDS = 3.0
#: tells a page that the folder is of another kind now, and has another page
_OTHER = event("other", {})

_SCRIPTS = (
    *("app", "charts", "client_log", "figures", "frames", "head"),
    *("heatmap", "listing", "store", "sweep", "tables", "words"),
)
_FILES = {
    "index.html": "text/html",
    "sweep.html": "text/html",
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


class PageService:
    """Serves the page of ``folder`` on a listening socket. Belongs to one event loop, in which it must be made.

    The folder of a sweep has a page of its own, and one for each run under ``/runs/{number}/``. A folder may become
    that of a sweep, or of a run, later: pages of the other kind are told so, and load again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root: Follower = SweepFollower(folder) if is_sweep(folder) else RunFollower(folder)
        #: followers of a sweep's runs whose pages were opened, by folder
        self._runs: dict[Path, RunFollower] = {}
        self._readers: Counter[Follower] = Counter()
        # Readers are answered on one thread, the folder is looked at on another, and each takes the follower in turn:
        # the event loop never waits for a disk, and wakes up only when there is something new.
        self._thread = ThreadPoolExecutor(1, "mindfl-live")
        self._follows = threading.Lock()
        self._is_ending = False
        self._changed = asyncio.Event()
        self._watched, self._stopping = threading.Event(), threading.Event()
        self._polling: threading.Thread | None = None
        place = Path(__file__).parent / "page"
        self._files = {name: (place / name).read_bytes() for name in _FILES}
        app = web.Application(middlewares=[_only_from_here])
        app.on_response_prepare.append(_add_headers)
        for prefix in ("", "/runs/{run:[0-9]{1,6}}"):
            app.router.add_get(f"{prefix}/", self._file, allow_head=False)
            app.router.add_get(f"{prefix}/events", self._stream, allow_head=False)
            app.router.add_get(f"{prefix}/logs/{{number:[0-9]{{1,9}}}}", self._log, allow_head=False)
            app.router.add_get(f"{prefix}/{{name}}", self._file, allow_head=False)
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
        if isinstance(self._root, RunFollower):
            self._root.is_over = is_over
        for follower in [self._root, *self._runs.values()]:
            await self._in_thread(self._has_new, follower)
        self._is_ending = True
        self._changed.set()
        await self._runner.cleanup()
        self._thread.shutdown()

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            self._watched.wait()
            followers = [follower for follower, readers in self._readers.copy().items() if readers]
            have_new = [self._has_new(follower) for follower in followers]
            if any(have_new):
                loop.call_soon_threadsafe(self._tell)

    def _has_new(self, follower: Follower) -> bool:
        with self._follows:
            if follower is self._root and self._becomes_other():
                return True
            before = follower.version
            follower.poll()
            return follower.version != before

    def _becomes_other(self) -> bool:
        """Notice that an empty folder became a sweep's, or that a run and a sweep took each other's place."""
        swept = is_sweep(self._folder)
        if swept == isinstance(self._root, SweepFollower) or not (swept or holds_run(self._folder)):
            return False
        self._root = SweepFollower(self._folder) if swept else RunFollower(self._folder)
        self._runs = {}
        self._root.poll()
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _alone(self, call: Callable[[], Found]) -> Found:
        with self._follows:
            return call()

    async def _follower(self, request: web.Request) -> Follower:
        """Return what follows the folder that the request is for; a sweep's run has a number."""
        run = request.match_info.get("run")
        if run is None:
            return self._root
        found: RunFollower | None = await self._in_thread(self._alone, lambda: self._run_of_sweep(int(run)))
        if found is None:
            raise web.HTTPNotFound(text=f"there is no run {run} here")
        return found

    def _run_of_sweep(self, number: int) -> RunFollower | None:
        if not isinstance(self._root, SweepFollower):
            return None
        if self._root.run_folder(number) is None:  # its page was opened before that of the sweep
            self._root.poll()
        folder = self._root.run_folder(number)
        if folder is None:
            return None
        if folder not in self._runs:
            self._runs[folder] = RunFollower(folder, of_sweep=True)
        return self._runs[folder]

    async def _in_thread(self, call: Callable[..., Found], *arguments: Any) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "")
        if not name:
            await self._in_thread(self._has_new, self._root)
            is_run = isinstance(await self._follower(request), RunFollower)
            name = "index.html" if is_run else "sweep.html"
        if name not in self._files:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], content_type=_FILES[name], charset="utf-8")

    async def _log(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        follower = await self._follower(request)
        found = await self._in_thread(follower.log, number) if isinstance(follower, RunFollower) else None
        if found is None:
            raise web.HTTPNotFound(text=f"client {number} has no log")
        text, size = found
        return web.json_response({"text": text, "bytes": size})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        follower = await self._follower(request)
        if self._readers.total() >= _MOST_STREAMS:
            raise web.HTTPServiceUnavailable(text=f"{_MOST_STREAMS} pages are open already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        self._readers[follower] += 1
        self._watched.set()
        try:
            kind = "run" if isinstance(follower, RunFollower) else "sweep"
            if request.query.get("kind", kind) == kind:
                await self._follow(response, follower, request.headers.get("Last-Event-ID", ""))
            else:
                await _sent(response, _OTHER)
        except (ConnectionError, asyncio.TimeoutError):
            pass  # the page was closed, or takes nothing
        finally:
            self._readers[follower] -= 1
            if not self._readers.total() and not self._stopping.is_set():
                self._watched.clear()
        return response

    async def _follow(self, response: web.StreamResponse, follower: Follower, last_id: str) -> None:
        if isinstance(follower, RunFollower):
            new = partial(RunReader(last_id).events, follower)
        else:
            new = partial(SweepReader().events, follower)
        is_root = follower is self._root
        if await self._in_thread(self._has_new, follower):
            self._tell()
        while True:
            changed, is_ending = self._changed, self._is_ending
            if is_root and follower is not self._root:
                await _sent(response, _OTHER)
                return
            events = await self._in_thread(self._alone, new)
            if events:
                await _sent(response, b"".join(events))
            elif is_ending:
                await _sent(response, event("end", {}))
                return
            else:
                try:
                    await asyncio.wait_for(changed.wait(), _SILENCE_SECONDS)
                except asyncio.TimeoutError:
                    await _sent(response, b": still here\n\n")


async def _sent(response: web.StreamResponse, content: bytes) -> None:
    """Send; where the reader is slow wait for it, so that nothing piles up here."""
    await asyncio.wait_for(response.write(content), _READER_SECONDS)


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
