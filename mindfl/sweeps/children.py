"""Runs of a sweep as child processes: each one is ``mindfl simulate``, and one that dies takes no other with it."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mindfl.errors import SimulationError
from mindfl.notices import WARNING
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions
from mindfl.system import end_with_parent, signal_name

#: what a run prints
LOG = "run.log"
_GRACE_SECONDS = 20.0
#: program of a child: makes the same packages importable as here
_PROGRAM = "import sys; sys.path[:] = eval(sys.argv[1]); from mindfl.sweeps.children import main; main()"
_ERROR = "mindfl: error: "
_CODE = re.compile(r" \[E-[A-Z-]+\]$")


def arguments_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the options of ``mindfl simulate`` for these settings.

    Example:
        >>> arguments_of({"seed": 3, "shuffle": True, "overwrite": False, "algorithm": "fedprox:mu=0.1"})
        ['--seed=3', '--shuffle', '--algorithm=fedprox:mu=0.1']
    """
    found: list[str] = []
    for name, value in settings.items():
        option = options_of(JobOptions)[name]
        spelling = (option.spellings or (f"--{name}",))[0]
        on, _, off = spelling.partition("/")
        if value is None:
            continue
        if option.kind is bool and not option.takes_value:
            found += [on] if value else [off] if off else []
        else:
            values = value if option.several else [value]
            found += [f"{on}={str(each).lower() if isinstance(each, bool) else each}" for each in values]
    return found


class Children:
    """The child processes of a sweep. Its methods may be called in several threads."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def simulate(self, arguments: list[str], folder: Path) -> list[str]:
        """Let a child do ``mindfl simulate`` with these ``arguments``, and wait for its end; return its warnings.

        Its output is appended to ``run.log`` in ``folder``. Raises :class:`SimulationError` saying why it failed.
        """
        paths = repr([str(Path(place).absolute()) for place in sys.path])
        with (folder / LOG).open("a+b") as log:
            begin = log.seek(0, 2)
            try:
                with self._lock:
                    if self.stopped:
                        raise SimulationError("interrupted before it began")
                    command = [sys.executable, "-c", _PROGRAM, paths, *arguments]
                    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                    self._running.add(process)
            except OSError as error:
                raise SimulationError(f"no process can be started: {error.strerror}") from None
            status = process.wait()
            with self._lock:
                self._running.discard(process)
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()
        if status:
            raise SimulationError(_reason(status, lines))
        return list(_warnings(lines))

    def stop(self) -> None:
        """End all children as Ctrl-C does, after a while by force; no other is started."""
        with self._lock:
            self.stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _reason(status: int, lines: list[str]) -> str:
    if status < 0:
        memory = ": perhaps there was not enough memory" if signal_name(-status) == "SIGKILL" else ""
        return f"its process was ended by {signal_name(-status)}{memory}"
    errors = [_CODE.sub("", line.removeprefix(_ERROR)) for line in lines if line.startswith(_ERROR)]
    return (errors or [line for line in lines if line.strip()] or ["it gave no reason"])[-1]


def _warnings(lines: list[str]) -> Iterator[str]:
    prefix = f"mindfl: {WARNING}"
    return (line.removeprefix(prefix) for line in lines if line.startswith(prefix))


def main() -> None:
    """Be a child: ``mindfl simulate`` with the arguments behind the list of paths."""
    end_with_parent()
    from mindfl.cli import main as command

    sys.argv[:] = ["mindfl", "simulate", *sys.argv[2:]]
    command()
