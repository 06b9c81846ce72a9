"""Runs of a sweep as child processes: each one is ``mindfl simulate``, and one that dies takes no other with it.

What runs share is made in a child process too, so that it ends when the sweep is interrupted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import click

from mindfl.errors import SimulationError
from mindfl.notices import WARNING
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions
from mindfl.sim.run_folder import SWEEP_VARIABLE
from mindfl.system import end_with_parent, signal_name

#: what a run prints
LOG = "run.log"
_GRACE_SECONDS = 20.0
#: program of a child: makes the same packages importable as here; its further arguments are the parent's number, its
#: task, and those of the task
_PROGRAM = "import sys; sys.path[:] = eval(sys.argv[1]); from mindfl.sweeps.children import main; main()"
_OURS = "mindfl: "
_ERROR = f"{_OURS}error: "
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
    """The child processes of the sweep in ``root``. Its methods may be called in several threads."""

    def __init__(self, root: Path) -> None:
        self._environment = {**os.environ, SWEEP_VARIABLE: ascii(str(root.absolute()))}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopped = False

    def simulate(self, arguments: list[str], folder: Path) -> list[str]:
        """Let a child do ``mindfl simulate`` with these ``arguments``, and wait for its end; return its warnings.

        Its output is appended to ``run.log`` in ``folder``. Raises :class:`SimulationError` saying why it failed.
        """
        with (folder / LOG).open("a+b") as log:
            lines = self._run(["simulate", *arguments], log)
        return [line.removeprefix(WARNING) for line in lines if line.startswith(WARNING)]

    def make(self, settings: Mapping[str, Any], common: Path) -> list[str]:
        """Let a child make what runs with these ``settings`` share in the folder ``common``, and wait for its end.

        Returns what it says, where warnings begin with "warning: ". Raises :class:`SimulationError`.
        """
        with tempfile.TemporaryFile() as log:
            return self._run(["make", json.dumps(settings), str(common.absolute())], log)

    def _run(self, task: list[str], log: IO[bytes]) -> list[str]:
        """Run a child that writes into ``log``; return its lines without "mindfl: " before them."""
        paths = repr([str(Path(place).absolute()) for place in sys.path])
        begin = log.seek(0, os.SEEK_END)
        try:
            with self._lock:
                if self.stopped:
                    raise SimulationError("interrupted before it began")
                command = [sys.executable, "-c", _PROGRAM, paths, str(os.getpid()), *task]
                process = subprocess.Popen(
                    command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
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
        return [line.removeprefix(_OURS) for line in lines if line.startswith(_OURS)]

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


def main() -> None:
    """Be a child: do the task behind the list of paths and the parent's number."""
    parent, task, *arguments = sys.argv[2:]
    end_with_parent(int(parent))
    from mindfl.cli import main as command

    sys.argv[:] = ["mindfl"] if task == "make" else ["mindfl", task, *arguments]
    if task == "make":
        command(command=click.Command("make", callback=lambda: _make(*arguments)))
    else:
        command()


def _make(settings: str, common: str) -> None:
    from mindfl.sweeps.shared import Shared

    def say(text: str) -> None:
        click.echo(f"{_OURS}{text}", err=True)

    Shared(json.loads(settings), Path(common)).make(say, lambda text: say(f"{WARNING}{text}"))
