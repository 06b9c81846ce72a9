"""How much a fuzz target runs, and how much one input may cost the reader under test.

``MINDFL_FUZZ=N`` runs N times as many inputs, drawn anew each time (``make fuzz``); without it they stay the same.
"""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

Test = TypeVar("Test", bound=Callable[..., None])

TIMES = int(os.environ.get("MINDFL_FUZZ", "1"))


def fuzz(inputs: int) -> Callable[[Test], Test]:
    """Run a test with this many inputs, times ``MINDFL_FUZZ``."""
    return settings(
        max_examples=inputs * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def budget(*, memory: int, calls: int) -> Iterator[None]:
    """Fail where the block takes more than ``memory`` bytes at once, or more than ``calls`` calls of functions.

    Calls stand for time: unlike it, their number is the same on every machine.
    """
    made = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= memory, f"{peak} bytes at once, {memory} are allowed"
    assert made <= calls, f"{made} calls, {calls} are allowed"
