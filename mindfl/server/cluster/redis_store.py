"""The servers of one job on several machines, meeting in a Redis.

Who holds ``mindfl:<fl_name>:leader`` keeps the job. The key expires unless it is renewed, and every write names the
token in it, so that a keeper that was paused and replaced meanwhile changes nothing any more. What was acknowledged is
as safe as the Redis makes it: with ``appendonly yes`` and ``appendfsync always`` it survives a power loss.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mindfl.errors import StorageError
from mindfl.server.cluster.redis_storage import KEEPER, LEADER, LEASE_MS, RedisStorage
from mindfl.server.cluster.store import KeeperRecord
from mindfl.server.durable import DurableJob
from mindfl.server.management import Node
from mindfl.server.settings import JobSettings
from mindfl.server.storage import Storage, StoreDownError

_ANSWER_SECONDS = 2.0
_PRESENCE_MS = 6000


class RedisClaim:
    """The claim on the leader's key."""

    def __init__(self, storage: RedisStorage) -> None:
        self._storage = storage

    def open_job(self, begin: Callable[[Storage], DurableJob]) -> DurableJob:
        """Return the job in the Redis."""
        return begin(self._storage)

    def publish(self, record: KeeperRecord) -> None:
        """Set the keeper's key."""
        self._storage.put(KEEPER, record.text())


class RedisStore:
    """The servers that meet in the Redis of ``settings``. Raises :class:`StorageError` where it does not answer."""

    def __init__(self, settings: JobSettings) -> None:
        self.place = f"the Redis at {settings.distributed_cache.address}"
        self._client = _connect(settings)
        self._prefix = f"mindfl:{settings.fl_name}:"
        self._presence: tuple[str, threading.Event] | None = None
        _asked(self._client.ping)

    def claim(self) -> RedisClaim | None:
        """Take the leader's key if nobody has it."""
        token = secrets.token_hex(16)
        if not _asked(self._client.set, self._prefix + LEADER, token, nx=True, px=LEASE_MS):
            return None
        return RedisClaim(RedisStorage(self._client, self._prefix, token, self.place))

    def keeper(self) -> KeeperRecord | None:
        """Read what the keeper set last; None also where the Redis does not answer."""
        try:
            found = _asked(self._client.get, self._prefix + KEEPER)
            return None if found is None else KeeperRecord.parse(found)
        except StoreDownError:
            return None
        except (ValueError, KeyError, TypeError):
            raise StorageError(f"{self.place} holds a job of another version of mindfl") from None

    def join(self, nodes: Sequence[Node]) -> None:
        """Keep a key of this server alive from now on."""
        name, ended = f"{time.time_ns():020}-{uuid.uuid4().hex}", threading.Event()
        content = json.dumps([asdict(node) for node in nodes])

        def appear() -> None:
            self._client.hset(self._prefix + "servers", name, content)
            self._client.set(self._prefix + "server:" + name, "", px=_PRESENCE_MS)

        def stay() -> None:
            while not ended.wait(_PRESENCE_MS / 4000):
                with suppress(redis.RedisError):
                    appear()

        _asked(appear)
        self._presence = name, ended
        threading.Thread(target=stay, name="presence", daemon=True).start()

    def nodes(self) -> list[Node]:
        """Read the servers whose keys are alive, and forget the others."""
        listed = _asked(self._client.hgetall, self._prefix + "servers")
        found: list[Node] = []
        for name, content in sorted(listed.items()):
            key = self._prefix.encode() + b"server:" + name
            if _asked(self._client.exists, key):
                found += [Node(**node) for node in json.loads(content)]
            else:
                _asked(self._client.hdel, self._prefix + "servers", name)
        return found

    def leave(self) -> None:
        """Remove this server's key."""
        if self._presence is not None:
            name, ended = self._presence
            self._presence = None
            ended.set()
            with suppress(redis.RedisError):
                self._client.hdel(self._prefix + "servers", name)
                self._client.delete(self._prefix + "server:" + name)


def _connect(settings: JobSettings) -> Any:
    cache = settings.distributed_cache
    host, _, port = cache.address.rpartition(":")
    if not (host and port.isdecimal()):
        raise StorageError(f"distributed_cache.address must be host:port, not {cache.address!r}")
    tls = {}
    if settings.enable_ssl:
        tls = {
            "ssl": True,
            "ssl_ca_certs": cache.cacert_filename or None,
            "ssl_ca_path": cache.capath or None,
            "ssl_certfile": cache.cert_filename or None,
            "ssl_keyfile": cache.private_key_filename or None,
        }
    limits = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
    # Whether and how long to insist is known here, and not the same for every command.
    return redis.Redis(host, int(port), retry=Retry(NoBackoff(), 0), **limits, **tls)


def _asked(command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return command(*arguments, **options)
    except redis.RedisError as error:
        raise StoreDownError(f"the Redis of the job does not answer: {error}") from None
