"""Import MindSpore with the environment it needs to be fast and quiet."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mindfl.errors import ExportError

_CPU_FLAGS = Path("/proc/cpuinfo")
_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


def import_mindspore() -> ModuleType:
    """Return the ``mindspore`` module; every import of MindSpore in mindfl goes through here.

    On a CPU with AVX-512, MindSpore 2.10's oneDNN picks a reference convolution that takes 12 times as long as its AVX2
    one, so ``ONEDNN_MAX_CPU_ISA=AVX2`` is set first, unless the user set it; it has no effect once MindSpore has been
    imported. ``GLOG_v`` is likewise raised so that only errors are logged. Raises :class:`ExportError` where MindSpore
    is missing or cannot be loaded.
    """
    if has_avx512():
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")
    try:
        with interrupt_held_back():
            return importlib.import_module("mindspore")
    except ImportError as error:
        raise ExportError(f"MindSpore cannot be imported: {error}", hint="pip install mindspore") from None


@contextmanager
def interrupt_held_back() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of the block; the first that came is then raised as if it came there.

    Interrupted in the middle of its import, MindSpore crashes the interpreter on its way out. Once it compiles a graph
    it has a handler of its own for SIGINT, which ends the process with SIGTERM and leaves temporary files behind;
    therefore SIGTERM is held back too, and both handlers are put back at the end. Ignored signals stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
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


def has_avx512(cpu_flags: Path = _CPU_FLAGS) -> bool:
    """Say whether the CPU has AVX-512 (foundation); False where the system does not tell."""
    try:
        return "avx512f" in cpu_flags.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
