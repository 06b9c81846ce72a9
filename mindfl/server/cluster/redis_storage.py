"""A durable job in a Redis: the snapshot in one key, the journal in a list.

A position of the journal counts records. The list begins with the record at ``journal:begin``. An entry is the kind of
the record (1 byte), its CRC-32 (4 bytes, little endian) and its payload.

While the Redis does not answer nothing is accepted. When it is back with the same records, the job continues. A record
that was appended although its answer was lost had been refused; it is removed.
"""

from __future__ import annotations

import logging
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import redis

from mindfl.errors import StorageError
from mindfl.server.events import Buffer
from mindfl.server.refusal import StoreDownError
from mindfl.server.segment import Record
from mindfl.server.snapshot import job_of
from mindfl.server.storage import Memory, Replay

_logger = logging.getLogger("mindfl.server")

LEASE = "leader"
LEADER_RECORD = "keeper"
SNAPSHOT = "snapshot"
HOLDERS = "holders"
"""Channel to which all servers with the job's model subscribe."""
LEASE_MS = 5000
"""Lease of a leader: how long a silent one stays the leader."""
_RENEWAL_SECONDS = 1.0
_RETURN_SECONDS = 0.2
"""Pause between attempts to reach a Redis that does not answer."""
_CHUNK = 64
_HEAD = struct.Struct("<BI")

_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
_DELETE = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[2])
return 1
"""
_PUT = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[2], ARGV[2])
return 1
"""
# Sent again after a lost answer, it appends nothing more: the position tells.
_APPEND = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return -1 end
local at = tonumber(redis.call('get', KEYS[2]) or '0') + redis.call('llen', KEYS[3])
if at ~= tonumber(ARGV[2]) then return at end
redis.call('rpush', KEYS[3], ARGV[3])
return at + 1
"""
_RESUME = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if redis.call('exists', KEYS[4]) == 0 then return 0 end
local at = tonumber(redis.call('get', KEYS[2]) or '0') + redis.call('llen', KEYS[3])
if at == tonumber(ARGV[2]) + 1 then
  redis.call('rpop', KEYS[3])
  at = at - 1
end
if at ~= tonumber(ARGV[2]) then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[3])
return 1
"""
_DROP = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
local surplus = tonumber(ARGV[2]) - tonumber(redis.call('get', KEYS[2]) or '0')
if surplus > 0 then
  redis.call('ltrim', KEYS[3], surplus, -1)
  redis.call('set', KEYS[2], ARGV[2])
end
return 1
"""


class RedisStorage:
    """The job whose keys begin with ``prefix``, held with ``token`` until it is closed.

    ``lost`` is set once the lease is lost: another server leads, or the Redis holds less than before. Methods raise
    :class:`StorageError`, and :class:`StoreDownError` while the Redis does not answer.
    """

    def __init__(self, client: Any, prefix: str, token: str, place: str) -> None:
        self.place = place
        self._client = client
        self._token = token
        self._prefix = prefix
        self._begin, self._records = prefix + "journal:begin", prefix + "journal"
        self._ended = threading.Event()
        self._away = threading.Event()
        self._appending = threading.Lock()
        self._end: int | None = None
        self.lost = threading.Event()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    @property
    def prompt(self) -> bool:
        """False: every record crosses the network."""
        return False

    @property
    def away(self) -> bool:
        """Whether the Redis does not answer."""
        return self._away.is_set()

    def load(self) -> bytes | None:
        """Read the snapshot."""
        found: bytes | None = self._asked(self._client.get, self._prefix + SNAPSHOT)
        return found

    def save(self, parts: Sequence[Buffer]) -> None:
        """Replace the snapshot."""
        self.put(SNAPSHOT, b"".join(parts))

    def put(self, name: str, value: bytes | str) -> None:
        """Set one of the job's keys."""
        self._own(self._script(_PUT, [self._prefix + name], value))

    def publish(self, record: str) -> None:
        """Publish the leader's ``record`` to all servers."""
        self.put(LEADER_RECORD, record)

    def open_journal(self, job: bytes, start: int, replay: Replay) -> RedisJournal:
        """Replay the list from ``start`` on."""
        return RedisJournal(self, start, replay)

    def set_reserve(self, size: int) -> None:
        """Do nothing: a Redis reserves no space."""

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Do nothing: a Redis reserves no space."""
        yield

    def close(self) -> None:
        """Release the lease."""
        self._ended.set()
        with suppress(StorageError):
            self._script(_RELEASE, [])

    def records(self, start: int) -> Iterator[bytes]:
        """Yield the entries from position ``start`` on."""
        begin = int(self._asked(self._client.get, self._begin) or 0)
        if begin > start:
            raise StorageError(f"{self.place}: the journal lacks what came before position {begin}")
        at = start - begin
        while chunk := self._asked(self._client.lrange, self._records, at, at + _CHUNK - 1):
            yield from chunk
            at += len(chunk)

    def append(self, position: int, entry: bytes) -> None:
        """Append the entry that is to have ``position``."""
        with self._appending:
            if self.away:
                raise StoreDownError(f"{self.place} does not answer")
            self._end = position
            try:
                end = self._script(_APPEND, [self._begin, self._records], position, entry)
            except StoreDownError as error:
                self._lose_touch(error)
                raise
            self._own(end == position + 1)
            self._end = position + 1

    def _lose_touch(self, error: StoreDownError) -> None:
        if not self.away:
            self._away.set()
            _logger.warning("%s: devices are told to wait, getModel is answered", error.line())

    def discard_if_behind(self, memory: Memory) -> None:
        """Remove the stored job where its journal is shorter than ``memory`` remembers."""
        stored = self.load()
        if stored is None or job_of(stored) != memory.job:
            return
        begin = int(self._asked(self._client.get, self._begin) or 0)
        if begin + self._asked(self._client.llen, self._records) < memory.position:
            for name in (self._prefix + SNAPSHOT, self._begin, self._records):
                self._own(self._script(_DELETE, [name]))

    def drop_before(self, position: int) -> None:
        """Forget the entries before ``position``."""
        self._script(_DROP, [self._begin, self._records], position)

    def lost_error(self) -> StorageError:
        """Return the error for writes after the lease was lost."""
        return StoreDownError(f"{self.place}: another server leads the job now, or the Redis was emptied")

    def _own(self, done: object) -> None:
        if not done:
            self.lost.set()
            raise self.lost_error()

    def _renew(self) -> None:
        while not self._ended.wait(_RETURN_SECONDS if self.away else _RENEWAL_SECONDS):
            try:
                if not self._still_held():
                    self.lost.set()
                    return
            except StoreDownError as error:
                self._lose_touch(error)

    def _still_held(self) -> bool:
        if not self.away:
            return bool(self._script(_RENEW, [], LEASE_MS))
        with self._appending:
            keys = [self._begin, self._records, self._prefix + SNAPSHOT]
            held = bool(self._script(_RESUME, keys, self._end or 0, LEASE_MS))
            if held:
                self._away.clear()
                _logger.warning("%s answers again: the job goes on", self.place)
        return held

    def _script(self, script: str, keys: list[str], *arguments: Any) -> Any:
        names = [self._prefix + LEASE, *keys]
        return self._asked(self._client.eval, script, len(names), *names, self._token, *arguments)

    def _asked(self, command: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return command(*arguments)
        except redis.RedisError as error:
            raise StoreDownError(f"{self.place} does not answer: {error}") from None


class RedisJournal:
    """The journal in a :class:`RedisStorage`; see :class:`mindfl.server.storage.EventJournal`.

    A record that could not be appended is not applied. Once the lease is lost :meth:`durable` fails.
    """

    cut = 0

    def __init__(self, storage: RedisStorage, start: int, replay: Replay) -> None:
        self._storage = storage
        self._end = start
        self._lock = threading.Lock()
        self._failure: StorageError | None = None
        for entry in storage.records(start):
            kind, checksum = _HEAD.unpack_from(entry)
            payload = entry[_HEAD.size :]
            if zlib.crc32(payload) != checksum:
                raise StorageError(f"{storage.place}: record {self._end} of the journal is damaged")
            replay(kind, payload)
            self._end += 1

    def append(self, record: Record, *, vital: bool = False) -> int:
        """Append the record; it is as safe as the Redis makes it when this returns."""
        entry = _HEAD.pack(record.kind, record.checksum) + b"".join(record.parts)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._storage.append(self._end, entry)
            self._end += 1
            return self._end

    def durable(self, position: int) -> Future[None] | None:
        """Return None, or a failed future where the lease is lost."""
        if self._failure is None and not self._storage.lost.is_set():
            return None
        failed: Future[None] = Future()
        failed.set_exception(self._failure or self._storage.lost_error())
        return failed

    def rotate(self) -> int:
        """Return the end: any position will do."""
        return self._end

    def drop_before(self, position: int) -> None:
        """Forget the records before ``position``; not reported where that fails, as they do no harm."""
        with suppress(StorageError):
            self._storage.drop_before(position)

    def close(self) -> None:
        """Append nothing more."""
        self._failure = self._failure or StorageError(f"{self._storage.place}: the journal is closed")
