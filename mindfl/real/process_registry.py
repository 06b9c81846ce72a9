"""The processes of a work folder: recorded when they start, so that they can be ended after mindfl itself was killed.

Each process also has the work folder in its environment, and so have its children: these are found without a record. A
program that overwrites its environment, as Redis does for its title, is found by its record or its parent only.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mindfl.errors import SimulationError, StorageError
from mindfl.files import PathLike, local_path, make_dir, write_atomic
from mindfl.real.process_table import (
    GRACE_SECONDS,
    KILL_SECONDS,
    VARIABLE,
    Ending,
    ProcessRecord,
    add_children,
    end_processes,
    processes,
    record_of,
    self_and_parents,
    still_runs,
)
from mindfl.system import interrupt_held_back

#: how often processes are looked for: a mindfl that runs may start new ones while the old ones are ended
_ROUNDS = 10
_TAIL_BYTES = 1 << 16

Report = Callable[[Sequence[ProcessRecord]], None]


class ProcessRegistry:
    """Starts, finds and ends the processes of ``work_dir``. Its records are in ``<work_dir>/processes``.

    Several registries, in several processes, may share a folder. If a folder is moved while its processes run, it must
    be moved back to end them, as a copy must not end the processes of the original.
    """

    def __init__(self, work_dir: PathLike) -> None:
        self.work_dir = Path(os.path.realpath(local_path(work_dir)))
        self._folder = self.work_dir / "processes"

    @property
    def token(self) -> str:
        """The value of :data:`VARIABLE` in the environment of these processes."""
        return os.fspath(self.work_dir)

    def start(
        self,
        command: Sequence[str | Path],
        *,
        role: str,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> StartedProcess:
        """Start ``command`` in a session of its own, its output in the file ``log``.

        Args:
            command: program and arguments.
            role: name in messages, such as "server 0".
            log: replaced if it exists; its folder is made.
            cwd: folder that it runs in; None: the current one.
            env: the whole environment; None: this process's.

        Raises:
            SimulationError: the process cannot be started.
            StorageError: log or record cannot be written; the process was ended.
        """
        words = [os.fspath(word) for word in command]
        own_env = {**(os.environ if env is None else env), VARIABLE: self.token}
        make_dir(self._folder)
        started: list[StartedProcess] = []
        try:
            # Ctrl-C between start and record would leave a process without record.
            with interrupt_held_back():
                process = _spawn(words, role, log, cwd, own_env)
                started.append(self._keep(process, record_of(process.pid, role, words, os.fspath(log.absolute()))))
        except KeyboardInterrupt:
            for each in started:
                each.stop()
            raise
        return started[0]

    def _keep(self, process: subprocess.Popen[bytes], record: ProcessRecord) -> StartedProcess:
        """Write the record; if that fails the process is killed."""
        path = self._folder / f"{record.pid}_{record.started}.json"
        try:
            write_atomic(path, json.dumps({**asdict(record), "work_dir": self.token}), private=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return StartedProcess(process, record, path)

    def running(self) -> list[ProcessRecord]:
        """Return the running ones with their children, oldest first; never this process or its parents."""
        found = {record.pid: record for record, _ in self._recorded() if still_runs(record)}
        table = list(processes())
        add_children(found, table)
        for seen in table:
            if seen.pid not in found and seen.token() == self.token:
                found[seen.pid] = seen.record("unrecorded")
        add_children(found, table)  # of the unrecorded ones
        own = self_and_parents()
        return sorted((record for pid, record in found.items() if pid not in own), key=lambda record: record.started)

    def end(
        self,
        records: Iterable[ProcessRecord] | None = None,
        *,
        grace_seconds: float = GRACE_SECONDS,
        report: Report = lambda records: None,
    ) -> list[Ending]:
        """End processes and return how each ended; records of processes that have ended are removed.

        Args:
            records: the processes; None: all that run, until none is left.
            grace_seconds: time between SIGTERM and SIGKILL.
            report: called with processes just before they are ended.
        """
        endings: list[Ending] = []
        tried: set[tuple[int, int]] = set()
        for _ in range(_ROUNDS):
            chosen = self.running() if records is None else records
            new = [record for record in chosen if (record.pid, record.started) not in tried]
            if not new:
                break
            report(new)
            tried |= {(record.pid, record.started) for record in new}
            endings += end_processes(new, grace_seconds=grace_seconds)
        for record, path in self._recorded():
            if not still_runs(record):
                _remove(path)
        return endings

    def _recorded(self) -> Iterator[tuple[ProcessRecord, Path]]:
        """Yield the readable records of this folder, without those of a folder that it is a copy of."""
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValueError, TypeError, AttributeError, LookupError):
                entry = json.loads(path.read_text("utf-8"))
                if entry.pop("work_dir") == self.token:
                    yield ProcessRecord(**entry), path


class StartedProcess:
    """A process that :meth:`ProcessRegistry.start` started; the record is removed when its end is noticed."""

    def __init__(self, process: subprocess.Popen[bytes], record: ProcessRecord, path: Path) -> None:
        self._process = process
        self._path = path
        self._position, self._rest = 0, b""
        self.record = record
        self.pid = record.pid
        self.role = record.role
        self.log = Path(record.log or os.devnull)

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it runs."""
        return self._seen(self._process.poll())

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most ``timeout`` seconds for its end; return as :meth:`poll`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.poll()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> int:
        """End it and its children, if it runs, and return the exit status.

        SIGTERM, and SIGKILL after ``grace_seconds``. Raises :class:`SimulationError` if it cannot be ended.
        """
        if self.poll() is None:
            found = {self.pid: self.record}
            add_children(found, list(processes()))
            end_processes(found.values(), grace_seconds=grace_seconds)
        status = self.wait(KILL_SECONDS)
        if status is None:
            raise SimulationError(f"{self.role} (process {self.pid}) cannot be ended", hint=f"its log is {self.log}")
        return status

    def new_output(self) -> bytes:
        """Return what was added to the log since the last call. Raises :class:`StorageError`."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._position)
                content = file.read()
        except OSError as error:
            raise StorageError.from_os_error(error, "read", self.log) from None
        self._position += len(content)
        return content

    def new_lines(self) -> list[str]:
        """Return the complete lines that were added to the log since the last call. Raises :class:`StorageError`."""
        *lines, self._rest = (self._rest + self.new_output()).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def last_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of the log; none without log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def _seen(self, status: int | None) -> int | None:
        if status is not None:
            _remove(self._path)
        return status


def _spawn(
    words: Sequence[str], role: str, log: Path, cwd: Path | None, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    make_dir(log.parent)
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o666)
    except OSError as error:
        raise StorageError.from_os_error(error, "write", log) from None
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        where = error.filename or words[0]
        raise SimulationError(f"cannot start {role}: {where}: {error.strerror or error}") from None
    finally:
        os.close(output)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
