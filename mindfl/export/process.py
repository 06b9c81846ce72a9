"""Runs MindSpore in a child process: its 400 MiB, threads and signal handlers stay out of this process."""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mindfl.errors import ExportError, MindflError, StorageError
from mindfl.files import scratch_folder
from mindfl.models import import_mindspore
from mindfl.system import end_with_parent, process_group, signal_name

P = ParamSpec("P")
Result = TypeVar("Result")

_LOG = "log"
#: program of the child: makes the same packages importable as here, then runs one call
_PROGRAM = "import sys; sys.path[:] = eval(sys.argv[1]); from mindfl.export.process import main; main()"


def in_child(function: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> Result:
    """Call ``function``, one of this package's, in a new process; return its result or raise its exception.

    Output of MindSpore is shown if ``GLOG_v`` is set. The process ends when this one ends, also if that is killed.
    Raises :class:`ExportError` if it is killed or cannot be started.
    """
    with temporary_folder("mindfl-mindspore") as folder:
        answer, status = _run(pickle.dumps((function, arguments, options)), folder)
        text = (folder / _LOG).read_text(errors="replace")
    if "GLOG_v" in os.environ:
        sys.stderr.write(text)
    try:
        succeeded, outcome = pickle.loads(answer)
    except (EOFError, pickle.UnpicklingError):
        raise ExportError(f"MindSpore {_ending(status)}: {last_words(text)}", hint=_hint(status)) from None
    if succeeded:
        result: Result = outcome
        return result
    raise outcome


def try_import() -> str:
    """Import MindSpore in a child process; return its version. Raises :class:`ExportError` if that fails."""
    return in_child(mindspore_version)


def last_words(log: str) -> str:
    """Return the most informative line of the log of a process that failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    thrown = [line.partition("what():")[2].strip() for line in lines if line.startswith("what():")]
    errors = [line.rpartition("] ")[2] for line in lines if "error" in line.casefold()]
    named = [line for line in errors if not line.startswith("Fatal Python error")]
    return ([line for line in thrown if line] or named[-1:] or errors or lines[-1:] or ["it gave no reason"])[0]


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Yield a new folder ``<name>.*``, and remove it with its content at the end of the block.

    Raises :class:`StorageError` if it cannot be created.
    """
    with ExitStack() as held:
        try:
            folder = held.enter_context(scratch_folder(name))
        except OSError as error:
            raise StorageError(
                f"no temporary folder can be used: {error.strerror}", hint="set TMPDIR to a folder you may write to"
            ) from None
        yield folder


def _run(request: bytes, folder: Path) -> tuple[bytes, int]:
    """Return the answer of the process and its exit status. It writes to ``folder`` only."""
    command = [sys.executable, "-c", _PROGRAM, repr([str(Path(place).absolute()) for place in sys.path])]
    with (folder / _LOG).open("wb") as log:
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        try:
            with process_group(command, cwd=folder, env={**os.environ, "TMPDIR": str(folder)}, **streams) as process:
                answer, _ = process.communicate(request)
        except (OSError, RuntimeError) as error:
            raise ExportError(f"no process for MindSpore can be started: {error}") from None
    return answer, process.returncode


def _ending(status: int) -> str:
    return f"ended with exit status {status}" if status >= 0 else f"was ended by {signal_name(-status)}"


def _hint(status: int) -> str:
    if status == -signal.SIGKILL:
        return "perhaps there was not enough memory: MindSpore needs 500 MiB"
    return "mindfl doctor says whether MindSpore can be imported"


def main() -> None:
    """Read a pickled call from standard input, write the pickled outcome to standard output, and leave at once."""
    end_with_parent()
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.dup(1)
    os.dup2(2, 1)  # keep output of MindSpore out of the answer
    function, arguments, options = pickle.loads(sys.stdin.buffer.read())
    with os.fdopen(answers, "wb") as file:
        pickle.dump(_outcome(function, arguments, options), file)
    sys.stderr.flush()
    os._exit(0)  # MindSpore's shutdown is slow and may fail


def mindspore_version() -> str:
    """Import MindSpore and return its version."""
    return str(import_mindspore().__version__)


def _outcome(function: Any, arguments: Any, options: Any) -> tuple[bool, Any]:
    try:
        return True, function(*arguments, **options)
    except MindflError as error:
        error.__cause__ = None
        return False, error
    except MemoryError:
        return False, ExportError("not enough memory for MindSpore", hint="it needs 500 MiB")
