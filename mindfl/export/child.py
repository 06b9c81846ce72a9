"""The process that :func:`mindfl.export.process.in_child` starts: calls one function and hands its result back."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import sys
from typing import Any

from mindfl.errors import ExportError, MindflError
from mindfl.models import import_mindspore

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read a pickled call from standard input, write the pickled outcome to standard output, and leave at once."""
    _end_with_parent()
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.dup(1)
    os.dup2(2, 1)  # what MindSpore prints must not get between
    function, arguments, options = pickle.loads(sys.stdin.buffer.read())
    with os.fdopen(answers, "wb") as file:
        pickle.dump(_outcome(function, arguments, options), file)
    sys.stderr.flush()
    os._exit(0)  # MindSpore's own end takes a while, and may fail


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
        return False, ExportError("the memory does not suffice for MindSpore", hint="it needs 500 MiB")


def _end_with_parent() -> None:
    """Let this process be killed where the thread that waits for it is gone."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
