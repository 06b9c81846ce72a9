"""What a page has been sent of a run or a sweep, and the server-sent events that bring it up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mindfl.live.run_follower import RunFollower
from mindfl.live.sweep_follower import SweepFollower

#: rounds that are read at once
_ROWS_AT_ONCE = 16
_POINTS_AT_ONCE = 5000


class RunReader:
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
            yield event("begin", {})
        if self._header is not follower.header:
            self._header = follower.header
            yield event("run", follower.header)
        last = min(self._rows + _ROWS_AT_ONCE, follower.rows)
        for index in range(self._rows, last):
            row = follower.row(index)
            if row is None:
                return
            self._rows = index + 1
            yield event("row", row, f"{self._generation}:{index}")
        if self._rows < follower.rows:
            return
        if self._progress is None or self._progress < follower.progress:
            begins = self._progress is None
            entries = follower.entries(self._progress or 0)
            self._progress = follower.progress
            yield event("timeline", {"begins": begins, "entries": entries})


class SweepReader:
    """What one page of a sweep has been sent so far; a lost connection begins anew."""

    def __init__(self) -> None:
        self._generation = ""
        self._header: dict[str, Any] | None = None
        self._sent: list[int] = []

    def events(self, follower: SweepFollower) -> list[bytes]:
        """Return the next events, not too many at a time; none where the page is up to date."""
        return list(self._events(follower))

    def _events(self, follower: SweepFollower) -> Iterator[bytes]:
        if self._generation != follower.generation or len(self._sent) != len(follower.points):
            self._generation, self._sent, self._header = follower.generation, [0] * len(follower.points), None
            yield event("begin", {})
        if self._header is not follower.header:
            self._header = follower.header
            yield event("sweep", follower.header)
        for number, points in enumerate(follower.points):
            sent = self._sent[number]
            if sent < len(points):
                new = points[sent : sent + _POINTS_AT_ONCE]
                self._sent[number] += len(new)
                yield event("points", {"run": number, "points": new})


def event(kind: str, value: dict[str, Any], number: str = "") -> bytes:
    """Return a server-sent event with its data in JSON; ``number`` is its id."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    identity = f"id: {number}\n" if number else ""
    return f"event: {kind}\n{identity}data: {text}\n\n".encode(errors="replace")
