"""A process that has imported MindSpore, and is forked for each call that would import it in a process of its own.

The import is two of the three seconds that such a call takes. ``made_once`` lets the processes of a run share one, and
the commands that tests start. Where it cannot be reached, or its fork dies, the call is made as mindfl makes it.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PROGRAM = "import sys; sys.path[:] = eval(sys.argv[1]); from mindspore_forks import serve; serve(sys.argv[2])"
_LENGTH = 8  # bytes of the length before a request


def address_of(folder: Path) -> str:
    """Return the address for a run's folder; it is no file, so nothing is left of it."""
    return f"\0mindfl tests {folder}"[:100]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process, which ends when its standard input is closed, or at once where there is one already."""
    command = [sys.executable, "-c", _PROGRAM, repr(_places()), address_of(folder)[1:]]
    environment = {name: value for name, value in os.environ.items() if name != "GLOG_v"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    process.stdout.read(1)
    return process


def forked(folder: Path, in_child: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``in_child`` that asks the process of ``folder``."""

    def ask(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        answer = _asked(folder, function, arguments, options)
        if not answer:
            return in_child(function, *arguments, **options)
        succeeded, outcome = pickle.loads(answer)
        if succeeded:
            return outcome
        raise outcome

    return ask


def _places() -> list[str]:
    return [str(Path(place).absolute()) for place in sys.path]


def _asked(folder: Path, function: Callable[..., Any], arguments: Any, options: Any) -> bytes:
    """Return the pickled outcome; nothing where there is none."""
    from mindfl.export.process import temporary_folder

    # GLOG_v is read when MindSpore is imported, unless it is what mindfl sets.
    if os.environ.get("GLOG_v", "3") != "3":  # noqa: SIM112 - it is spelt so
        return b""
    with temporary_folder("mindfl-mindspore") as place, socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(address_of(folder))
        except OSError:
            return b""
        call = pickle.dumps((function, arguments, options))
        request = pickle.dumps((_places(), {**os.environ, "TMPDIR": str(place)}, str(place), call))
        with suppress(ConnectionError):
            line.sendall(len(request).to_bytes(_LENGTH, "little") + request)
            with line.makefile("rb") as answers:
                return answers.read()
    return b""


def serve(name: str) -> None:
    """Take connections, import MindSpore, and fork for each connection until standard input ends."""
    listener = socket.socket(socket.AF_UNIX)
    with suppress(OSError):  # another process has the address
        listener.bind("\0" + name)
        listener.listen(64)
        _answer_all(listener)


def _answer_all(listener: socket.socket) -> None:
    os.write(1, b"ready")
    os.dup2(2, 1)
    import mindfl.export.exporter
    import mindfl.export.network
    import mindfl.export.untrained  # noqa: F401
    from mindfl.models import import_mindspore

    import_mindspore()
    while True:
        ready, _, _ = select.select([0, listener], [], [])
        if 0 in ready:
            return
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that ended
                pass
        line, _ = listener.accept()
        if not os.fork():
            try:
                listener.close()
                _answer(line)
            finally:
                os._exit(1)
        line.close()


def _answer(line: socket.socket) -> None:
    """Make one call as the process that mindfl starts would, and end."""
    import faulthandler
    import resource
    import tempfile

    from mindfl.export import process
    from mindfl.models import _mindspore

    os.setsid()
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _mindspore._forked = False
    tempfile.tempdir = None
    with line.makefile("rb") as requests:
        length = int.from_bytes(requests.read(_LENGTH), "little")
        sys.path[:], environment, place, call = pickle.loads(requests.read(length))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    threading.Thread(target=_end_with_line, args=(line,), daemon=True).start()
    line.sendall(pickle.dumps(process._outcome(*pickle.loads(call))))
    line.shutdown(socket.SHUT_RDWR)
    os._exit(0)


def _end_with_line(line: socket.socket) -> None:
    """End when nobody waits for the answer any more."""
    line.recv(1)
    os.killpg(0, signal.SIGKILL)
