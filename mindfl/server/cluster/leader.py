"""The leader: opens the job, serves it to clients and to the other servers, and hands it over."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mindfl.errors import MindflError, StorageError
from mindfl.server.cluster.feed import PATH, STATE_PATH, IterationFeed, News, Position
from mindfl.server.cluster.forward import REFUSED, TOKEN
from mindfl.server.cluster.store import LeaderRecord, ListNodes, Membership
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import DurableJob
from mindfl.server.http import Address, HttpService, bound_address, listen
from mindfl.server.http.front import DeviceFront, ManagementFront
from mindfl.server.http.pages import Reply, error_page
from mindfl.server.http.request import Request
from mindfl.server.iteration import IterationRecord
from mindfl.server.management import PATHS
from mindfl.server.reports import Sink
from mindfl.server.snapshot import JobOrigin, Snapshot
from mindfl.server.state import JobProgress
from mindfl.server.storage import Memory

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_storage import RedisStorage


class LeaderFront:
    """Answers requests with the ``token``: of clients, of the management, and for ended iterations.

    ``changed`` is called after each request of the management. Belongs to one event loop.
    """

    def __init__(
        self,
        token: str,
        devices: DeviceFront,
        management: ManagementFront,
        feed: IterationFeed,
        coordinator: Coordinator,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._token = token.encode()
        self._devices = devices
        self._management = management
        self._feed = feed
        self._coordinator = coordinator
        self._changed = changed

    async def __call__(self, request: Request) -> Reply:
        """Return the answer to one HTTP request."""
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(errors="replace"), self._token):
            return error_page(REFUSED)
        path = request.path
        if path == PATH:
            return await self._news(request)
        if path == STATE_PATH:
            return Reply(200, await asyncio.to_thread(self._state))
        if path not in PATHS:
            return await self._devices(request)
        reply = await self._management(request)
        await self._changed()
        return reply

    def _state(self) -> bytes:
        """Return the job between two iterations, with its latest model alone."""
        state = self._coordinator.job.snapshot()
        newest = replace(state, models={state.iteration - 1: state.models[state.iteration - 1]}, counted={})
        return b"".join(Snapshot(JobOrigin(bytes(16), state.config, ""), 0, newest).parts())

    async def _news(self, request: Request) -> Reply:
        query = request.query
        known = Position(query["instance"], int(query["iteration"])) if "instance" in query else None
        record = await self._feed.after(known)
        coordinator = self._coordinator
        newest = Position(coordinator.job.instance, coordinator.iteration - 1)
        news = News(JobProgress.of(coordinator), newest, record)
        return Reply(200, await asyncio.to_thread(news.encode, coordinator.job.layout))


_logger = logging.getLogger("mindfl.server")

_WATCH_SECONDS = 1.0


class Leader:
    """Leads the job in ``storage`` until :meth:`leave`. Belongs to one event loop; ``service.front`` serves clients."""

    def __init__(self, own: Membership, storage: RedisStorage, report: Sink) -> None:
        self._own = own
        self._storage = storage
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._feed = IterationFeed()
        self._token = secrets.token_hex(32)
        self._url = ""
        self._publishing = asyncio.Lock()
        self._publications: set[asyncio.Task[None]] = set()

    @classmethod
    async def begin(
        cls,
        own: Membership,
        storage: RedisStorage,
        *,
        nodes: ListNodes,
        report: Sink,
        failed: Callable[[MindflError], None],
        memory: Memory | None = None,
    ) -> Leader:
        """Open the job, answer the other servers, and publish the address.

        ``report`` is given the records of iterations, those that end while the journal is replayed among them;
        ``failed`` is called if nothing can be stored any more. ``memory``: the state from which the job resumes where
        nothing is stored. Raises :class:`StorageError`.
        """
        leader = cls(own, storage, report)

        def opened() -> DurableJob:
            if memory is not None:
                storage.discard_if_behind(memory)
            return own.open_job(storage, leader.ended, memory)

        job = await asyncio.to_thread(opened)
        try:
            await leader._serve(job, nodes, failed)
        except BaseException:
            await asyncio.to_thread(job.close)
            raise
        return leader

    async def _serve(self, job: DurableJob, nodes: ListNodes, failed: Callable[[MindflError], None]) -> None:
        self._job = job
        self.service = HttpService(job, prefix=self._own.prefix, clock=self._own.clock)
        self.service.workers.failure.add_done_callback(lambda failure: failed(failure.result()))
        self._management = self._own.manage(job, nodes)
        sockets = listen(Address(self._own.internal_host, 0), "tcp_server_ip")
        front = LeaderFront(
            self._token,
            self.service.front,
            ManagementFront(self._management, self.service.workers),
            self._feed,
            job.coordinator,
            self._republish,
        )
        tls = self._own.internal_tls
        await self.service.serve(front, sockets, tls.own if tls else None)
        self.service.front.watch_windows()
        self._url = f"{'https' if tls else 'http'}://{bound_address(sockets[0])}"
        await self._publish()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Notice a lost lease, also while no request comes."""
        with suppress(ConnectionError, StorageError):
            while True:
                await asyncio.sleep(_WATCH_SECONDS)
                await self.service.workers.durable(0)

    @property
    def progress(self) -> JobProgress:
        """How far the job is."""
        return JobProgress.of(self._job.coordinator)

    def memory(self) -> Memory:
        """Return the state from which the job resumes if the Redis is emptied."""
        return self._job.memory()

    def ended(self, record: IterationRecord) -> None:
        """Forward the record of an ended iteration; called from any thread, also while the job is being opened."""
        self._own.write_files(record)
        self._report(record)
        self._feed(record)
        self._loop.call_soon_threadsafe(self._republish_soon)

    async def leave(self) -> None:
        """Finish requests in flight and release the lease."""
        self._watching.cancel()
        self._url = ""
        if not self.service.workers.failure.done():
            await self._republish()
        self._feed.close()
        await self.service.stop()
        await asyncio.gather(*self._publications)
        await asyncio.to_thread(self._job.close)

    async def _publish(self) -> None:
        async with self._publishing:
            record = LeaderRecord(
                url=self._url,
                token=self._token,
                progress=self.progress,
                settings=self._management.result,
                features=self._own.features,
                initial_model=self._job.origin.model,
                begun_with=asdict(self._job.origin.config),
                config=asdict(self._job.coordinator.config),
            )
            await asyncio.to_thread(self._storage.publish, record.text())

    async def _republish(self) -> None:
        try:
            await self._publish()
        except StorageError as error:
            _logger.warning("%s", error.line())

    def _republish_soon(self) -> None:
        if self._url:
            task = self._loop.create_task(self._republish())
            self._publications.add(task)
            task.add_done_callback(self._publications.discard)
