"""Threads, signals and child processes of this process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ContextDecorator, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # of prctl


class ProcessLock(ContextDecorator):
    """A re-entrant lock that lets one thread of a process in at a time; created once, at the top of a module.

    It can be held in a ``with`` block, or decorate a function.

    Example:
        >>> drawing = ProcessLock()
        >>> with drawing:
        ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


def startable_threads(wanted: int) -> int:
    """Return how many of ``wanted`` threads this process can start.

    If the system allows fewer, one or two are left for others.
    """
    enough = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=enough.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        return max(min(1, len(started)), len(started) - 2)
    finally:
        enough.set()
        for thread in started:
            thread.join()
    return wanted


@contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Delay SIGINT and SIGTERM until the end of the block; the first one is raised there.

    If its import is interrupted, MindSpore crashes the interpreter at exit. When it compiles a graph, it installs a
    handler for SIGINT that ends the process with SIGTERM and leaves temporary files; so SIGTERM is delayed too, and
    both handlers are restored at the end. Ignored signals stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        with _handlers_put_back():
            yield
        return
    held: list[int] = []
    previous = {number: signal.getsignal(number) for number in _HELD_BACK}
    for number, handler in previous.items():
        ignored = handler is signal.SIG_IGN  # as SIGINT by what a script starts with &
        signal.signal(number, handler if ignored else lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if held:
            signal.raise_signal(held[0])


@contextmanager
def _handlers_put_back() -> Iterator[None]:
    """Restore the handlers at the end of the block, in a thread in which Python cannot set any."""
    python = ctypes.pythonapi
    python.PyOS_getsig.restype = ctypes.c_void_p
    python.PyOS_setsig.argtypes = (ctypes.c_int, ctypes.c_void_p)
    python.PyOS_setsig.restype = ctypes.c_void_p
    previous = {number: python.PyOS_getsig(int(number)) for number in _HELD_BACK}
    try:
        yield
    finally:
        for number, handler in previous.items():
            python.PyOS_setsig(int(number), handler)


@contextmanager
def process_group(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start ``command`` in a process group of its own; kill the group at the end of the block if it still runs.

    ``options`` are those of :class:`subprocess.Popen`. Raises ``OSError`` if the program cannot be started.
    """
    process: subprocess.Popen[Any] | None = None
    try:
        with interrupt_held_back():  # an interrupt inside Popen would leave a process that nothing ends
            process = subprocess.Popen(command, start_new_session=True, **options)
        yield process
    finally:
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end_with_parent(parent: int | None = None) -> None:
    """Ask the system to kill this process when the thread that waits for it ends.

    ``parent`` is the process that it is in, which may have ended before this call; None: the parent now.
    """
    parent = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as "SIGKILL"; "signal 99" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
