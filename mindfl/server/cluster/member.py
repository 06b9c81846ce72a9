"""One of the servers that share a job: the leader, or a follower that forwards to it and may replace it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from mindfl.errors import MindflError, OptionError, StorageError
from mindfl.server.cluster import feed
from mindfl.server.cluster.feed import News, Position, Unrepeated
from mindfl.server.cluster.forward import DeviceForward, LeaderLine, ManagementForward
from mindfl.server.cluster.leader import Leader
from mindfl.server.cluster.store import Membership, reach
from mindfl.server.http import Listeners
from mindfl.server.http.pages import Reply
from mindfl.server.http.request import Request
from mindfl.server.iteration import IterationRecord
from mindfl.server.refusal import StoreDownError
from mindfl.server.snapshot import other_features, other_settings, read
from mindfl.server.state import JobProgress
from mindfl.server.storage import Memory

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_store import RedisStore

_logger = logging.getLogger("mindfl.server")

JOIN_SECONDS = 60.0
"""How long a server that joins waits for the leader, which may be reading a journal."""

_ELECTION_SECONDS = 0.2
_NEWS_HOLD_SECONDS = 1.0
_FLOAT_BYTES = 4


class Member:
    """Serves the job in ``store``, together with the other servers that meet there.

    Belongs to one event loop, in which it must be made. ``failure`` is done once the server cannot continue.
    """

    def __init__(self, store: RedisStore, own: Membership) -> None:
        self.failure: asyncio.Future[MindflError] = asyncio.get_running_loop().create_future()
        self._store = store
        self._own = own
        self._report = Unrepeated(own.report)
        self._poke = asyncio.Event()
        tls = own.internal_tls.others if own.internal_tls else None
        self._line = LeaderLine(store.leader, lost=self._poke.set, tls=tls)
        self._forward = DeviceForward(self._line, prefix=own.prefix, model_bytes=_FLOAT_BYTES * own.layout.size)
        self._listeners = Listeners()
        self._tasks: list[asyncio.Task[None]] = []
        self._stepping_down: asyncio.Task[None] | None = None
        self._leading: Leader | None = None
        self._progress = JobProgress("", 0, 0)
        self._memory: Memory | None = None
        self._was_leader = False
        self._stopping = False

    @property
    def progress(self) -> JobProgress:
        """Progress of the job, as this server knows it."""
        return self._leading.progress if self._leading else self._progress

    async def start(
        self,
        sockets: Sequence[socket.socket],
        manage_sockets: Sequence[socket.socket] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Find the leader or become it, then accept requests.

        Raises :class:`StorageError` if there is no leader and this server cannot become it, and
        :class:`OptionError` for a job with other weights or settings.
        """
        await reach(self._store)
        await asyncio.to_thread(self._store.join, self._own.nodes)
        await self._join()
        self._follow_leader()
        front = self._own.counted(self._answer)
        await self._listeners.serve(front, sockets, tls, most_connections=self._own.most_connections)
        management = ManagementForward(self._line, self._store, self._own.fl_name)
        await self._listeners.serve(management, manage_sockets, tls)

    async def stop(self) -> None:
        """Finish requests in flight, and let another server lead."""
        self._stopping = True
        self._poke.set()
        if self._stepping_down:
            await self._stepping_down
        if self._tasks:
            election, following = self._tasks
            await election
            following.cancel()
            await asyncio.wait([following])
        await self._listeners.stop()
        if self._leading:
            await self._leading.leave()
        with suppress(StorageError):
            await asyncio.to_thread(self._store.leave)
        await self._line.close()

    async def _answer(self, request: Request) -> Reply:
        return await (self._leading.service.front if self._leading else self._forward)(request)

    async def _join(self) -> None:
        """Return when this server is the leader, or the leader has answered."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + JOIN_SECONDS
        while not await self._claimed():
            news = await self._news(None)
            if news is not None:
                await self._check_sameness()
                await self._remember()
                self._progress = news.progress
                self._report.skip_to(news.newest)
                return
            if loop.time() > deadline:
                raise StorageError(
                    f"the job {self._own.fl_name} is held by a process that does not answer",
                    hint="end that process, or wait until it has recovered the job",
                )

    async def _check_sameness(self) -> None:
        leader = await asyncio.to_thread(self._store.leader)
        if leader is None:
            return
        other = other_features(self._own.features, leader.features) if leader.features else ""
        if other:
            raise OptionError(
                f"the job {self._own.fl_name} runs with another model: {other}",
                hint="start this server with that model, or another job under another fl_name",
            )
        if changed := other_settings(self._own.config, leader.begun_with, leader.config):
            raise OptionError(
                f"the job {self._own.fl_name} runs with other settings: {', '.join(changed)}",
                hint="start this server with those of the others, or another job under another fl_name",
            )

        if self._own.model and leader.initial_model not in ("", self._own.model):
            _logger.warning("the values of this server's weights are not used: the job began with others")

    async def _remember(self) -> None:
        """Fetch the state of the job, from which it resumes if the Redis is emptied and the leader has ended."""
        reply = await self._line.ask(feed.STATE_PATH, hold_seconds=_NEWS_HOLD_SECONDS)
        if reply is not None and reply.status == 200:
            self._memory = Memory(read(reply.body, "the job's leader", self._own.layout).state)
            await asyncio.to_thread(self._store.hold)

    def _follow_leader(self) -> None:
        self._tasks = [asyncio.create_task(self._elect()), asyncio.create_task(self._follow())]

    async def _elect(self) -> None:
        try:
            while not (self._stopping or await self._claimed_if_possible()):
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._poke.wait(), _ELECTION_SECONDS)
                self._poke.clear()
        except MindflError as error:
            if not self.failure.done():
                self.failure.set_result(error)

    async def _claimed_if_possible(self) -> bool:
        try:
            return await self._claimed()
        except StoreDownError:
            return False

    def _lost(self, error: MindflError) -> None:
        """Stop leading; the next leader reads the stored job again."""
        _logger.warning("this server is the leader no longer: %s", error.line())
        if self._leading:
            self._memory, self._was_leader = self._leading.memory(), True
        self._stepping_down = asyncio.create_task(self._step_down())

    async def _step_down(self) -> None:
        leader, self._leading = self._leading, None
        if leader is not None:
            await leader.leave()
        if not self._stopping:
            self._follow_leader()

    async def _claimed(self) -> bool:
        """Become the leader, unless another server is."""
        if self._leading is None:
            follows = self._memory is not None and not self._was_leader
            newcomer = self._memory is None
            storage = await asyncio.to_thread(self._store.claim, follows=follows, newcomer=newcomer)
            if storage is not None:
                self._leading = await Leader.begin(
                    self._own,
                    storage,
                    nodes=self._store.nodes,
                    report=self._report,
                    failed=self._lost,
                    memory=self._memory,
                )
                await asyncio.to_thread(self._store.hold)
        return self._leading is not None

    async def _follow(self) -> None:
        """Report ended iterations for as long as another server is the leader."""
        while self._leading is None:
            news = await self._news(self._report.position)
            if news is None:
                await asyncio.sleep(_ELECTION_SECONDS)
                continue
            self._progress, self._was_leader = news.progress, False
            if news.record is not None:
                self._report(news.record)
                await self._note(news.record)

    async def _note(self, record: IterationRecord) -> None:
        """Note an ended iteration that the leader reported."""
        known = self._memory
        if known is None or known.state.instance != record.instance:
            await self._remember()
        elif known.state.iteration <= record.iteration:
            state = replace(known.state, iteration=record.iteration + 1, models={record.iteration: record.model})
            self._memory = Memory(state)

    async def _news(self, known: Position | None) -> News | None:
        query = f"?{urlencode({'instance': known.instance, 'iteration': known.iteration})}" if known else ""
        reply = await self._line.ask(feed.PATH + query, hold_seconds=_NEWS_HOLD_SECONDS)
        return News.decode(reply.body, self._own.layout) if reply and reply.status == 200 else None
