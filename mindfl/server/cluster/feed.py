"""Long polling for ended iterations: the other servers ask the leader, which answers when one has ended."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mindfl.server.aggregate import FeatureLayout
from mindfl.server.iteration import IterationRecord
from mindfl.server.state import MODELS_KEPT, JobProgress

PATH = "/iterations"
STATE_PATH = "/job"
"""Path of the job's present state."""
WAIT_SECONDS = 20.0
"""How long the leader lets a server wait before it answers that nothing has ended."""

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Position:
    """The last iteration that a server knows the end of; "" and 0 stand for none."""

    instance: str = ""
    iteration: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """Progress of the job, the last ended iteration, and the record of the one that was asked for, if it has ended."""

    progress: JobProgress
    newest: Position
    record: IterationRecord | None

    def encode(self, layout: FeatureLayout) -> bytes:
        """Return length and text of a JSON head, then the model of the record, without the fields for metrics."""
        head: dict[str, Any] = {"progress": asdict(self.progress), "newest": asdict(self.newest), "record": None}
        model = b""
        if self.record is not None:
            head["record"] = asdict(replace(self.record, model={}, visits={}, refusals={}, durations_ms=()))
            model = layout.flatten(self.record.model).tobytes()
        text = json.dumps(head).encode()
        return _LENGTH.pack(len(text)) + text + model

    @classmethod
    def decode(cls, data: bytes, layout: FeatureLayout) -> News:
        """Return the news in ``data``. Raises :class:`ValueError`, :class:`KeyError` or :class:`TypeError`."""
        if len(data) < _LENGTH.size:
            raise ValueError("too short")
        end = _LENGTH.size + int(_LENGTH.unpack_from(data)[0])
        head = json.loads(data[_LENGTH.size : end])
        record = None
        if head["record"] is not None:
            model = layout.split(np.frombuffer(data, np.float32, layout.size, end))
            record = IterationRecord(**{**head["record"], "model": model})
        return cls(JobProgress(**head["progress"]), Position(**head["newest"]), record)


class IterationFeed:
    """Keeps the last three records, and wakes the waiters for the next. Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._kept: deque[IterationRecord] = deque(maxlen=MODELS_KEPT)
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._closed = False

    def __call__(self, record: IterationRecord) -> None:
        """Take in a record; called from any thread."""
        self._loop.call_soon_threadsafe(self._add, record)

    async def after(self, position: Position | None) -> IterationRecord | None:
        """Return the first record after ``position`` once there is one, or None: it took too long, or ``position`` is
        None."""
        if position is None:
            return None
        deadline = self._loop.time() + WAIT_SECONDS
        while not self._closed:
            found = self._first_after(position)
            if found is not None or self._loop.time() >= deadline:
                return found
            await asyncio.wait([self._changed], timeout=deadline - self._loop.time())
        return None

    def close(self) -> None:
        """Wakes all waiters."""
        self._closed = True
        self._wake()

    def _add(self, record: IterationRecord) -> None:
        self._kept.append(record)
        self._wake()

    def _wake(self) -> None:
        self._changed.set_result(None)
        self._changed = self._loop.create_future()

    def _first_after(self, position: Position) -> IterationRecord | None:
        same = [number for number, record in enumerate(self._kept) if record.instance == position.instance]
        for record in list(self._kept)[same[0] if same else 0 :]:
            if record.instance != position.instance or record.iteration > position.iteration:
                return record
        return None


class Unrepeated:
    """Forwards each iteration's record once, though a replayed journal or a feed may repeat it."""

    def __init__(self, take: Callable[[IterationRecord], None]) -> None:
        self._take = take
        self._seen: dict[str, int] = {}
        self.position = Position()

    def __call__(self, record: IterationRecord) -> None:
        """Forward ``record`` unless it, or a later one of its instance, was forwarded before."""
        if self._seen.get(record.instance, 0) < record.iteration:
            self.skip_to(Position(record.instance, record.iteration))
            self._take(record)

    def skip_to(self, position: Position) -> None:
        """Forward nothing up to ``position``."""
        self._seen[position.instance] = position.iteration
        self.position = position
