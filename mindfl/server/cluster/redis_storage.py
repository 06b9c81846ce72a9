"""A durable job in a Redis: the snapshot in one key, the journal in a list.

A position of the journal counts records. The list begins with the record at ``journal:begin``. An entry is the kind of
the record (1 byte), its CRC-32 (4 bytes, little endian) and its payload.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import redis

from mindfl.errors import StorageError
from mindfl.server.events import Buffer
from mindfl.server.segment import Record
from mindfl.server.storage import Replay

_logger = logging.getLogger("mindfl.server")

LEADER = "leader"
KEEPER = "keeper"
LEASE_MS = 5000
"""How long a keeper that has gone silent keeps the job."""
_SNAPSHOT = "snapshot"
_RENEWAL_SECONDS = 1.0
_INSIST_SECONDS = 3.0
_CHUNK = 64
_HEAD = struct.Struct("<BI")

_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
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

    ``lost`` is set once it is held no longer, because the lease was not renewed in time. Methods raise
    :class:`StorageError`.
    """

    def __init__(self, client: Any, prefix: str, token: str, place: str) -> None:
        self.place = place
        self._client = client
        self._token = token
        self._prefix = prefix
        self._begin, self._records = prefix + "journal:begin", prefix + "journal"
        self._ended = threading.Event()
        self.lost = threading.Event()
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    @property
    def prompt(self) -> bool:
        """False: every record crosses the network."""
        return False

    def load(self) -> bytes | None:
        """Read the snapshot."""
        found: bytes | None = self._asked(self._client.get, self._prefix + _SNAPSHOT)
        return found

    def save(self, parts: Sequence[Buffer]) -> None:
        """Replace the snapshot."""
        self.put(_SNAPSHOT, b"".join(parts))

    def put(self, name: str, value: bytes | str) -> None:
        """Set one of the job's keys."""
        self._own(self._script(_PUT, [self._prefix + name], value))

    def open_journal(self, job: bytes, start: int, replay: Replay) -> RedisJournal:
        """Replay the list from ``start`` on."""
        return RedisJournal(self, start, replay)

    def set_reserve(self, size: int) -> None:
        """A Redis sets nothing aside."""

    @contextmanager
    def spending(self) -> Iterator[None]:
        """A Redis has nothing to spend."""
        yield

    def close(self) -> None:
        """Let another server have the job."""
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
        """Append the entry that is to have ``position``; insists for a moment where the Redis does not answer."""
        deadline = time.monotonic() + _INSIST_SECONDS
        while True:
            try:
                end = self._script(_APPEND, [self._begin, self._records], position, entry)
            except StorageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RENEWAL_SECONDS / 10)
            else:
                self._own(end == position + 1)
                return

    def drop_before(self, position: int) -> None:
        """Forget the entries before ``position``."""
        self._script(_DROP, [self._begin, self._records], position)

    def lost_error(self) -> StorageError:
        """Return the error for what is no longer this server's to write."""
        return StorageError(f"{self.place}: another server keeps the job now, or the Redis was emptied")

    def _own(self, done: object) -> None:
        if not done:
            self.lost.set()
            raise self.lost_error()

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._ended.wait(_RENEWAL_SECONDS):
            try:
                if not self._script(_RENEW, [], LEASE_MS):
                    self.lost.set()
                    return
                renewed = time.monotonic()
            except StorageError as error:
                if time.monotonic() - renewed > LEASE_MS / 1000:
                    _logger.warning("%s", error.line())
                    self.lost.set()
                    return

    def _script(self, script: str, keys: list[str], *arguments: Any) -> Any:
        names = [self._prefix + LEADER, *keys]
        return self._asked(self._client.eval, script, len(names), *names, self._token, *arguments)

    def _asked(self, command: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return command(*arguments)
        except redis.RedisError as error:
            raise StorageError(f"{self.place} does not answer: {error}") from None


class RedisJournal:
    """The journal in a :class:`RedisStorage`; see :class:`mindfl.server.storage.EventJournal`.

    After a failure nobody knows what is stored, so nothing more is accepted: :meth:`durable` says so.
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
            try:
                self._storage.append(self._end, entry)
            except StorageError as error:
                self._failure = error
                raise
            self._end += 1
            return self._end

    def durable(self, position: int) -> Future[None] | None:
        """Return None, or a failed future where the job is no longer this server's."""
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
