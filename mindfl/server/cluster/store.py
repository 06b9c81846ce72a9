"""The record by which the servers of one job find their leader, and how they reach the Redis that holds it."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mindfl.errors import OptionError
from mindfl.imports import lacks
from mindfl.options.server_options import EMBEDDED
from mindfl.server.aggregate import FeatureLayout
from mindfl.server.durable import DurableJob
from mindfl.server.http.service import Counted
from mindfl.server.iteration import Clock
from mindfl.server.management import Management, ServerNode
from mindfl.server.refusal import StoreDownError
from mindfl.server.reports import Sink
from mindfl.server.server_config import ServerConfig
from mindfl.server.settings import JobSettings
from mindfl.server.snapshot import Features
from mindfl.server.state import JobProgress
from mindfl.server.storage import Memory, Storage

if TYPE_CHECKING:
    from mindfl.server.cluster.redis_store import RedisStore


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """The leader's record for the job's other servers and its scheduler.

    ``url`` is its address for them ("" once it has left), ``token`` the secret of their requests. ``features`` are
    those of the job's weights, ``initial_model`` is the fingerprint of their first values; ``begun_with`` and
    ``config`` are its settings when it was begun, and now. ``settings`` are those that /queryInstance shows while there
    is no leader.
    """

    url: str
    token: str = field(repr=False)
    progress: JobProgress
    settings: dict[str, Any]
    features: Features = field(default_factory=dict)
    initial_model: str = ""
    begun_with: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the record as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> LeaderRecord:
        """Return the record in ``text``. Raises :class:`ValueError`, :class:`KeyError` or :class:`TypeError`."""
        content = json.loads(text)
        known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        return cls(**{**known, "progress": JobProgress(**content["progress"])})


ListNodes = Callable[[], Sequence[ServerNode]]


@dataclass(frozen=True, slots=True)
class InternalTls:
    """TLS between the servers of a job: the own certificate, and the check of the others'."""

    own: ssl.SSLContext
    others: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The arguments of one server of a job.

    Args:
        fl_name, config: name and settings of the job.
        layout, features: names and lengths of its weights.
        model: fingerprint of its initial weights; "" where they come from a checkpoint.
        prefix: URL prefix of clients' requests.
        clock: the job's time.
        nodes: addresses of this server.
        internal_host, internal_tls: a leader answers the other servers on a free port of this host, with this TLS.
        counted: wraps the front for clients.
        most_connections: number of clients that may be connected at a time.
        report: is called with the record of each ended iteration, whichever server is the leader.
        open_job: opens the job as a leader: given its storage, a callback for ended iterations, and the state from
            which it resumes where nothing is stored.
        manage: makes the leader's management of a job; given a function that lists the servers.
        write_files: is called by the leader with the record of each ended iteration.
    """

    fl_name: str
    layout: FeatureLayout
    features: Features
    config: ServerConfig
    model: str
    prefix: str
    clock: Clock
    nodes: Sequence[ServerNode]
    internal_host: str
    internal_tls: InternalTls | None
    counted: Counted
    most_connections: int
    report: Sink
    open_job: Callable[[Storage, Sink, Memory | None], DurableJob]
    manage: Callable[[DurableJob, ListNodes], Management]
    write_files: Sink


_logger = logging.getLogger("mindfl.server")

WAIT_SECONDS = 60.0
"""How long a server that starts waits for the Redis, which may start at the same time."""
_PAUSE_SECONDS = 0.2


def find_store(settings: JobSettings) -> RedisStore:
    """Return the Redis in which the servers with these settings meet.

    Raises :class:`OptionError` where the settings name none, or the package redis is not installed.
    """
    if settings.distributed_cache.type == EMBEDDED:
        raise OptionError(
            f"{settings.origin.place('distributed_cache.type')}: servers of one job meet in a Redis, and "
            f"distributed_cache.type is {EMBEDDED}",
            hint="write distributed_cache: {type: redis, address: HOST:PORT}, or start one server without --cluster",
        )
    try:
        from mindfl.server.cluster.redis_store import RedisStore
    except ModuleNotFoundError:
        raise lacks("servers of one job meet in a Redis, which", "redis") from None
    return RedisStore(settings)


async def reach(store: RedisStore) -> None:
    """Return once ``store`` can be reached. Raises :class:`StoreDownError` if it cannot within a minute."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    told = False
    while True:
        try:
            await asyncio.to_thread(store.check)
        except StoreDownError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            if not told:
                _logger.warning("%s: waiting up to %.0f s for it", error, WAIT_SECONDS)
            told = True
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            return


def leader_tls(settings: JobSettings) -> ssl.SSLContext | None:
    """Return the check of a server on another machine: its certificate must name its address and be of the authority.

    None where the settings want no TLS. Raises :class:`OptionError`.
    """
    if not settings.enable_ssl:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ssl.ca_cert_path)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"{settings.ssl.ca_cert_path} holds no certificate of an authority: {error}") from None
