"""The time of a running job: it begins as the wall clock's and then follows the monotonic clock.

Windows are measured in job time, so a step of the wall clock (by hand, NTP, a daylight rule gone wrong) neither ends
an iteration nor stretches it. What a device is told must be wall time as it is now, because the device compares it
with its own clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Milliseconds since the epoch that never step. The two sources return nanoseconds."""

    def __init__(
        self, monotonic_ns: Callable[[], int] = time.monotonic_ns, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._anchor_ns = wall_ns() - monotonic_ns()

    def now_ms(self) -> int:
        """Return the job time."""
        return (self._anchor_ns + self._monotonic_ns()) // 1_000_000

    def wall_ms(self, job_ms: int) -> int:
        """Return the wall time that corresponds to a job time, by the wall clock as it is set now."""
        stepped_ns = self._wall_ns() - self._monotonic_ns() - self._anchor_ns
        return job_ms + round(stepped_ns / 1_000_000)
