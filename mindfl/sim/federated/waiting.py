"""Waiting for processes whose output goes to files, and what their last lines say where they end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindfl.errors import SimulationError
from mindfl.sim.processes import StartedProcess

_POLL_SECONDS = 0.05
_SHOWN = 300
_EVENT = re.compile(r"event (\{.*\})")
#: what a log says -> what that means
_REASONS = {
    "Http server starting failed": "its port is in use",
    "Address already in use": "its port is in use",
    "Failed to connect to redis": "it cannot connect to its Redis",
    "Connect to redis server failed": "it cannot connect to its Redis",
    "No module named 'mindspore_federated'": "its Python lacks MindSpore Federated (run: mindfl server install)",
}
_BAD = re.compile(r"\[(ERROR|CRITICAL)\]|Error\b|Exception\b|FATAL")


class LogFollower:
    """Reads the lines that a process adds to its log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """Return the whole lines that came since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        self._offset += len(content)
        *whole, self._rest = (self._rest + content).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


def event(line: str) -> dict[str, Any] | None:
    """Return the event that a line of ``entry.py`` tells, or None. Lines of two sources may have run together."""
    found = _EVENT.search(line)
    if found is None:
        return None
    try:
        told = json.loads(found[1])
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def wait_until(ready: Callable[[], bool], process: StartedProcess, deadline: float) -> None:
    """Return once ``ready``; raise :class:`SimulationError` where ``process`` ends or ``deadline`` passes before."""
    while True:
        ended = process.poll() is not None
        if ready():
            return
        if ended:
            raise ended_error(process)
        if time.monotonic() > deadline:
            raise SimulationError(
                f"the {process.role} was not ready in time: {reason(process)}", hint=f"its log is {process.log}"
            )
        time.sleep(_POLL_SECONDS)


def ended_error(process: StartedProcess) -> SimulationError:
    """Return what to raise where ``process`` has ended by itself."""
    status = process.poll() or 0
    # A process that watches another one ends with 128 + the signal that ended that one.
    number = -status if status < 0 else status - 128
    how = f"was ended by signal {number}" if number > 0 else f"ended with code {status}"
    return SimulationError(f"the {process.role} {how}: {reason(process)}", hint=f"its log is {process.log}")


def reason(process: StartedProcess) -> str:
    """Return why a process failed, as far as its log tells."""
    lines = [line.strip() for line in process.last_lines(200) if line.strip()]
    for known, meaning in _REASONS.items():
        if any(known in line for line in lines):
            return meaning
    bad = [line for line in lines if _BAD.search(line)]
    return (bad[-1:] or lines[-1:] or ["it said nothing"])[0][:_SHOWN]
