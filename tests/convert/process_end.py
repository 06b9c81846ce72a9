"""The end of a process that is not a child of the test."""

from __future__ import annotations

import os
import select

LIMIT_MS = 60_000


def await_end(pid: int) -> None:
    """Return once ``pid`` has ended; a process that was sent SIGKILL continues for a moment."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(process, select.POLLIN)
        assert poller.poll(LIMIT_MS), f"process {pid} goes on"
    finally:
        os.close(process)
