"""The servers of one job on several machines, which meet in a Redis.

The holder of the key ``mindfl:<fl_name>:leader`` is the leader. The key expires unless it is renewed, and every write
names the token in it, so that a paused and replaced leader changes nothing any more. An acknowledged upload is as safe
as the Redis makes it: with ``appendonly yes`` and ``appendfsync always`` it survives a power loss.
"""

from __future__ import annotations

import json
import logging
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
from mindfl.server.cluster.redis_storage import HOLDERS, LEADER_RECORD, LEASE, LEASE_MS, SNAPSHOT, RedisStorage
from mindfl.server.cluster.store import LeaderRecord
from mindfl.server.management import ServerNode
from mindfl.server.refusal import StoreDownError
from mindfl.server.settings import JobSettings
from mindfl.spelling import counted

_logger = logging.getLogger("mindfl.server")

_START_IT = "start it, such as with `redis-server --appendonly yes`, or correct distributed_cache.address"
_ANSWER_SECONDS = 2.0
_PRESENCE_MS = 6000
_LOOK_SECONDS = 1.0
_RETURN_SECONDS = 0.2
_YOUNG_SECONDS = 1
"""How long after its start a Redis is left to servers that knew it before: they come back within this time."""

_CLAIM = """
if ARGV[3] == '1' and redis.call('exists', KEYS[2]) == 0 then
  local holders = redis.pcall('pubsub', 'numsub', KEYS[3])
  if not holders.err and holders[2] > 0 then return -holders[2] end
end
if redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2]) then return 1 end
return 0
"""


class RedisStore:
    """The servers that meet in the Redis of ``settings``. Raises :class:`StorageError` for an unusable address."""

    def __init__(self, settings: JobSettings) -> None:
        self.place = f"the Redis at {settings.distributed_cache.address}"
        self._client = _connect(settings)
        self._prefix = f"mindfl:{settings.fl_name}:"
        self._presence: tuple[str, threading.Event] | None = None
        self._empty_since: float | None = None
        self._holding: Holding | None = None
        self._leaves_it = False

    def check(self) -> None:
        """Ask the Redis, and warn if it keeps nothing on disk."""
        self._asked(self._client.ping)
        try:
            kept = self._asked(self._client.config_get, "save", "appendonly")
        except StorageError:  # which many hosted ones forbid
            return
        if not kept.get("save") and kept.get("appendonly") == "no":
            _logger.warning(
                '%s keeps nothing on disk (save "", appendonly no): should it end, uploads of the running iteration '
                "are lost, and the model too unless a server of the job lives: set appendonly yes",
                self.place,
            )

    def claim(self, *, follows: bool = False, newcomer: bool = False) -> RedisStorage | None:
        """Take the leader's key and return the job; None where another server has it.

        A Redis that was emptied is left to the servers that have the job. ``follows``: this server knows of a job with
        another leader. It leaves the Redis to that one for a moment. ``newcomer``: it knows of no job. It leaves the
        Redis to all servers that :meth:`hold` the job.
        """
        if (follows and self._was_emptied()) or (newcomer and self._is_young()):
            return None
        token = secrets.token_hex(16)
        keys = [self._prefix + LEASE, self._prefix + SNAPSHOT, self._prefix + HOLDERS]
        taken = self._asked(self._client.eval, _CLAIM, len(keys), *keys, token, LEASE_MS, int(newcomer))
        if taken < 0 and not self._leaves_it:
            self._leaves_it = True
            text = "%s holds no job, but %s the job's model: waiting until it is there again"
            _logger.warning(text, self.place, counted(-taken, "server has", "servers have"))
        return RedisStorage(self._client, self._prefix, token, self.place) if taken > 0 else None

    def _is_young(self) -> bool:
        """Whether the Redis began, without the job, less than a moment ago, and its servers may not be back yet."""
        if self._asked(self._client.exists, self._prefix + SNAPSHOT):
            return False
        try:
            uptime = self._asked(self._client.info, "server").get("uptime_in_seconds", _YOUNG_SECONDS)
        except StorageError:  # forbidden by some hosts
            return False
        return bool(uptime < _YOUNG_SECONDS)

    def hold(self) -> None:
        """Show from now on that this server has the job's model."""
        if self._holding is None:
            self._holding = Holding(self._client, self._prefix + HOLDERS)

    def _was_emptied(self) -> bool:
        """Whether the job vanished a moment ago, so that its last leader, if it lives, may still store it again."""
        if self._asked(self._client.exists, self._prefix + SNAPSHOT):
            self._empty_since = None
            return False
        if self._empty_since is None:
            self._empty_since = time.monotonic()
        return time.monotonic() - self._empty_since < 2 * LEASE_MS / 1000

    def leader(self) -> LeaderRecord | None:
        """Read the leader's record."""
        try:
            found = self._asked(self._client.get, self._prefix + LEADER_RECORD)
            return None if found is None else LeaderRecord.parse(found)
        except (ValueError, KeyError, TypeError):
            raise StorageError(f"{self.place} holds a job of another version of mindfl") from None

    def join(self, nodes: Sequence[ServerNode]) -> None:
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

        self._asked(appear)
        self._presence = name, ended
        threading.Thread(target=stay, name="presence", daemon=True).start()

    def nodes(self) -> list[ServerNode]:
        """Read the servers whose keys are alive, and forget the others."""
        listed = self._asked(self._client.hgetall, self._prefix + "servers")
        found: list[ServerNode] = []
        for name, content in sorted(listed.items()):
            key = self._prefix.encode() + b"server:" + name
            if self._asked(self._client.exists, key):
                found += [ServerNode(**node) for node in json.loads(content)]
            else:
                self._asked(self._client.hdel, self._prefix + "servers", name)
        return found

    def _asked(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except redis.RedisError as error:
            raise StoreDownError(f"{self.place} does not answer: {error}", hint=_START_IT) from None

    def leave(self) -> None:
        """Remove this server's key and its subscription."""
        if self._holding is not None:
            self._holding.close()
        if self._presence is not None:
            name, ended = self._presence
            self._presence = None
            ended.set()
            with suppress(redis.RedisError):
                self._client.hdel(self._prefix + "servers", name)
                self._client.delete(self._prefix + "server:" + name)


class Holding:
    """A sign that a server has the job's model, which an emptied Redis still shows: a subscription, as that is no key.

    Subscribes to ``channel``, and again whenever the connection was lost, until it is closed.

    Who finds no job in the Redis counts the subscribers, and leaves it to them: they put the job back.
    """

    def __init__(self, client: Any, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._subscription: Any = None
        self._warned = False
        self._ended = threading.Event()
        self._listen()
        threading.Thread(target=self._stay, name="holding", daemon=True).start()

    def close(self) -> None:
        """Show the sign no longer, within a second."""
        self._ended.set()

    def _stay(self) -> None:
        while not self._ended.is_set():
            if not self._listen():
                self._ended.wait(_RETURN_SECONDS)
        self._unsubscribe()

    def _listen(self) -> bool:
        """Wait for a message, which says nothing, for a moment; return whether the Redis answers."""
        try:
            if self._subscription is None:
                self._subscription = self._client.pubsub()
                self._subscription.subscribe(self._channel)
            if self._subscription.get_message(timeout=_LOOK_SECONDS) is None:
                self._subscription.ping()  # or a connection to a Redis that is gone would stay
        except redis.RedisError as error:
            self._warn_of(error)
            self._unsubscribe()
            return False
        return True

    def _warn_of(self, error: redis.RedisError) -> None:
        if isinstance(error, redis.exceptions.NoPermissionError) and not self._warned:
            self._warned = True
            _logger.warning(
                "the Redis permits no subscription to %s (%s): should it be emptied, a server that starts then may "
                "begin the job anew",
                self._channel,
                error,
            )

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


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
    # Commands are repeated here, where it is known how often: it differs from command to command.
    return redis.Redis(host, int(port), retry=Retry(NoBackoff(), 0), **limits, **tls)
