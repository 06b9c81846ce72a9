"""Imports MindSpore with the environment variables that make it fast and quiet."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from mindfl.errors import ExportError
from mindfl.system import ProcessLock, interrupt_held_back

_CPU_FLAGS = Path("/proc/cpuinfo")
#: hold it while MindSpore works in this process, as MindSpore crashes with several threads
mindspore_lock = ProcessLock()
#: whether MindSpore was loaded before this process was forked
_forked = False


def import_mindspore() -> ModuleType:
    """Return the ``mindspore`` module; every import of MindSpore in mindfl goes through here.

    On a CPU with AVX-512, MindSpore 2.10's oneDNN picks a reference convolution that takes 12 times as long as its AVX2
    one, so ``ONEDNN_MAX_CPU_ISA=AVX2`` is set first, unless the user set it; it has no effect once MindSpore has been
    imported. ``GLOG_v`` is likewise raised so that only errors are logged. Raises :class:`ExportError` if MindSpore is
    missing, cannot be loaded, or was loaded before this process was forked.
    """
    if has_avx512():
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("GLOG_v", "3")
    if _forked:
        raise ExportError(
            "MindSpore was loaded before this process was forked from another, and works in that one only",
            hint="start processes with multiprocessing's spawn, or load MindSpore in them only",
        )
    try:
        with interrupt_held_back():
            return importlib.import_module("mindspore")
    except (Exception, SystemExit) as error:  # of its own, and of packages that do not fit together
        raise ExportError(f"MindSpore cannot be imported: {first_sentence(error)}", hint=_hint(error)) from None


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error of MindSpore, without the ruled heading before it.

    Example:
        >>> first_sentence(RuntimeError("-----\\n- Kernel Select Failed:\\n-----\\nReLU has no kernel. Try another."))
        'ReLU has no kernel'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ruled = [_is_rule(line) for line in lines]
    while ruled[:1] == [True]:
        heading = ruled[2:3] == [True] and (lines[1].startswith("- ") or lines[1].endswith(":"))
        skipped = 3 if heading else 1
        lines, ruled = lines[skipped:], ruled[skipped:]
    return (lines[:1] or [type(error).__name__])[0].partition(". ")[0]


def _is_rule(line: str) -> bool:
    return len(line) > 2 and not line.strip("-=")


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "mindspore":
        return "pip install mindspore"
    if "cannot open shared object file" in str(error):
        return "install the system library that it names"
    return "another package may not fit it: try it in a fresh virtual environment, pip install mindspore"


def _note_fork() -> None:
    global _forked
    _forked = _forked or "mindspore" in sys.modules


os.register_at_fork(after_in_child=_note_fork)


def has_avx512(cpu_flags: Path = _CPU_FLAGS) -> bool:
    """Return whether the CPU has AVX-512 (foundation); False if the system does not tell."""
    try:
        return "avx512f" in cpu_flags.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
