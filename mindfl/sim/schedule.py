"""Schedules waiting clients on a thread pool: a client that waits holds no thread."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, Queue
from typing import TypeAlias

from mindfl.client import Finished, IterationDone, JobResult, Wait

#: why a device paused
Step: TypeAlias = Wait | IterationDone | Finished[JobResult]


class Schedule:
    """Runs ``advance(index)`` in ``threads`` for every device that was added, as soon as its delay is over."""

    def __init__(self, threads: ThreadPoolExecutor, advance: Callable[[int], Step]) -> None:
        self._threads = threads
        self._advance = advance
        self._due: list[tuple[float, int]] = []
        self._running = 0
        # No SimpleQueue: CPython's waits for ever where the thread loses the processor just as the timeout passes.
        self._ended: Queue[tuple[int, Future[Step]]] = Queue()

    def add(self, index: int, delay_ms: int = 0) -> None:
        """Run device ``index`` once more, after ``delay_ms`` milliseconds."""
        heapq.heappush(self._due, (time.monotonic() + delay_ms / 1000, index))

    def steps(self) -> Iterator[tuple[int, Step]]:
        """Yield each device with its step as they come, until all have ended that were added meanwhile too.

        The first failure is raised; what is running goes on.
        """
        while self._due or self._running:
            self._begin()
            try:
                index, task = self._ended.get(timeout=self._pause())
            except Empty:
                continue
            self._running -= 1
            yield index, task.result()

    def _begin(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, index = heapq.heappop(self._due)
            self._running += 1
            task = self._threads.submit(self._advance, index)
            task.add_done_callback(partial(self._end, index))

    def _end(self, index: int, task: Future[Step]) -> None:
        self._ended.put((index, task))

    def _pause(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
