"""Finds and ends processes of this machine.

A record identifies a process by its id and its start time, so it never matches a later process with the same id.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import psutil

#: environment variable with the work folder that a process was started for
VARIABLE = "MINDFL_RUN"
#: seconds between SIGTERM and SIGKILL
GRACE_SECONDS = 5.0
#: seconds to wait after SIGKILL: a process that waits for a broken device cannot be killed
KILL_SECONDS = 10.0
_POLL_SECONDS = 0.02
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: start time of a process that ended before it could be read
_NEVER = -1
#: position of the start time in /proc/<pid>/stat after the name in parentheses: field 22 of proc(5)
_START_FIELD = 19
#: errors for a process that has ended; a lack of memory or of file handles raises others
_ENDED = (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError)
_GONE = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """Identifies a process.

    Args:
        pid: process id.
        started: start time in clock ticks since the machine's start (proc(5)).
        boot: id of the machine's start.
        role: name in messages.
        command: command line in messages.
        log: file with its output; None: not known.
    """

    pid: int
    started: int
    boot: str
    role: str
    command: str
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process was ended: after SIGTERM, by SIGKILL, or not at all for the ``reason``."""

    record: ProcessRecord
    outcome: Literal["ended", "killed", "left"]
    reason: str = ""


def end_processes(records: Iterable[ProcessRecord], *, grace_seconds: float = GRACE_SECONDS) -> list[Ending]:
    """End the recorded processes: SIGTERM to all, SIGKILL to those left after ``grace_seconds``.

    Never this process or its parents. Returns how each ended, without those that had ended before.
    """
    own = self_and_parents()
    alive = [record for record in records if record.pid not in own and still_runs(record)]
    refused = _signal(alive, psutil.Process.terminate)
    asked = [record for record in alive if record.pid not in refused]
    stubborn = _wait_for(asked, grace_seconds)
    refused |= _signal(stubborn, psutil.Process.kill)
    left = {record.pid for record in _wait_for([r for r in stubborn if r.pid not in refused], KILL_SECONDS)}
    killed = {record.pid for record in stubborn} - left

    def ending(record: ProcessRecord) -> Ending:
        if record.pid in refused:
            return Ending(record, "left", refused[record.pid])
        if record.pid in left:
            return Ending(record, "left", "it does not react to SIGKILL")
        return Ending(record, "killed" if record.pid in killed else "ended")

    return [ending(record) for record in alive]


def tagged_processes(tag: str) -> list[ProcessRecord]:
    """Return this user's processes with ``tag`` in the command line, oldest first.

    Never this process, another ``mindfl finish``, whose command line contains the tag too, or a parent of either.
    """
    table = {seen.pid: seen for seen in processes()}
    spared = self_and_parents()
    for pid in [pid for pid, seen in table.items() if _finishes(seen.words())]:
        while pid in table and pid not in spared:
            spared.add(pid)
            pid = table[pid].parent
    tagged = [seen for pid, seen in table.items() if pid not in spared and tag in " ".join(seen.words())]
    found = [seen.record("tagged") for seen in tagged if seen.own()]
    return sorted(found, key=lambda record: record.started)


class Seen:
    """A process in the system's table."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.pid: int = process.pid
        self.parent: int = process.ppid()
        self.started = _started(self.pid)

    def token(self) -> str | None:
        """Return the work folder that it was started for; None if there is none, or the user is another."""
        with suppress(psutil.Error, OSError):
            value: str | None = self._process.environ().get(VARIABLE)
            return value
        return None

    def words(self) -> list[str]:
        """Return its command line; empty if it cannot be read."""
        with suppress(psutil.Error, OSError):
            return list(self._process.cmdline())
        return []

    def own(self) -> bool:
        """Return whether it runs as this process's user."""
        with suppress(psutil.Error):
            return bool(self._process.uids().effective == os.geteuid())
        return False

    def record(self, role: str) -> ProcessRecord:
        """Return the record that identifies this process."""
        return ProcessRecord(pid=self.pid, started=self.started, boot=_boot(), role=role, command=_shown(self.words()))


def processes() -> Iterator[Seen]:
    """Yield the processes of this machine that have not ended."""
    for pid in psutil.pids():
        with suppress(*_ENDED, psutil.AccessDenied, PermissionError):
            process = psutil.Process(pid)
            if process.status() not in _GONE:
                yield Seen(process)


def add_children(found: dict[int, ProcessRecord], table: Sequence[Seen]) -> None:
    """Add the children, and theirs, of the processes in ``found``."""
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        for seen in table:
            if seen.parent == parent and seen.pid not in found:
                found[seen.pid] = seen.record(f"child of {found[parent].role}")
                waiting.append(seen.pid)


def record_of(pid: int, role: str, words: Sequence[str], log: str | None = None) -> ProcessRecord:
    """Return the record that identifies the process ``pid``, which may have ended."""
    try:
        started = _started(pid)
    except _ENDED:
        started = _NEVER
    return ProcessRecord(pid=pid, started=started, boot=_boot(), role=role, command=_shown(words), log=log)


def still_runs(record: ProcessRecord) -> bool:
    """Return whether the process of ``record`` runs."""
    return _find(record) is not None


def _shown(words: Sequence[str]) -> str:
    """Return a command as one line of text; bytes that are not UTF-8 are replaced."""
    return " ".join(shlex.join(words).split()).encode(errors="replace").decode()


def _started(pid: int) -> int:
    """Return when the process started; unlike psutil's time it does not move when the clock is set."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[_START_FIELD])


def _boot() -> str:
    with suppress(OSError):
        return _BOOT_ID.read_text("ascii").strip()
    return ""


def _find(record: ProcessRecord) -> psutil.Process | None:
    """Return the process; None if it has ended, reaped or not, or its id is now that of another one."""
    with suppress(*_ENDED, ValueError, TypeError):
        process = psutil.Process(record.pid)
        if _started(record.pid) == record.started and _boot() == record.boot and process.status() not in _GONE:
            return process
    return None


def _signal(records: Iterable[ProcessRecord], send: Callable[[psutil.Process], None]) -> dict[int, str]:
    """Send a signal to each process; return the reasons where that is not allowed, by process id."""
    refused: dict[int, str] = {}
    for record in records:
        process = _find(record)
        if process is None:
            continue
        try:
            send(process)
        except psutil.AccessDenied:
            refused[record.pid] = f"it runs as {_user(process)}, so it may not be signalled"
        except psutil.NoSuchProcess:
            continue
    return refused


def _user(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str(process.username())
    return "another user"


def _wait_for(records: Sequence[ProcessRecord], seconds: float) -> list[ProcessRecord]:
    """Wait at most ``seconds`` for the ends of processes, which need not be children; return those left."""
    deadline = time.monotonic() + seconds
    while (left := [record for record in records if still_runs(record)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return left


def self_and_parents() -> set[int]:
    current = psutil.Process()
    return {current.pid, *(parent.pid for parent in current.parents())}


def _finishes(words: Sequence[str]) -> bool:
    """Return whether this is the command line of ``mindfl finish``."""
    pairs = pairwise(words)
    return any(second == "finish" and Path(first).name in ("mindfl", "__main__.py") for first, second in pairs)
