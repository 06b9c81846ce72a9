"""Uses MindSpore: in a child process if possible, in graph mode, with errors of one line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from mindfl.errors import ExportError, MindflError
from mindfl.export.process import in_child, try_import
from mindfl.float_environment import default_float_environment
from mindfl.models import ModelSpec, first_sentence, import_mindspore, mindspore_lock
from mindfl.user_code import raised_where

P = ParamSpec("P")
Result = TypeVar("Result")


def call_for(spec: ModelSpec, function: Callable[P, Result], *arguments: P.args, **options: P.kwargs) -> Result:
    """Call ``function``, which uses MindSpore and the network of ``spec``, and return its result.

    mindfl's own networks and those given as text are used in a new process. Others (from a notebook, a closure, or a
    module that changed since its import) may exist in this process only and are used here, one at a time.
    """
    build = spec.build.func if isinstance(spec.build, partial) else spec.build
    ours = spec.own is None and build.__module__.startswith("mindfl.")
    if (ours or spec.by_name) and sys.executable:
        return in_child(function, *arguments, **options)
    with mindspore_here():
        return function(*arguments, **options)


@contextmanager
def mindspore_here() -> Iterator[None]:
    """Let one thread at a time use MindSpore in this process.

    Raises :class:`ExportError` if it cannot be imported.
    """
    with mindspore_lock:
        if "mindspore" not in sys.modules and sys.executable:
            try_import()  # a failing import may crash the process
        import_mindspore()
        yield


@contextmanager
def graph_mode(device_target: str) -> Iterator[None]:
    """Switch MindSpore to graph mode for the block, and back to the caller's mode and arithmetic at its end."""
    mindspore = import_mindspore()
    previous = mindspore.get_context("mode")
    use_graph_mode(device_target)
    try:
        with default_float_environment():
            yield
    finally:
        mindspore.set_context(mode=previous)


def use_graph_mode(device_target: str) -> None:
    """Make MindSpore compile graphs for this device. Raises :class:`ExportError` if it does not have the device."""
    mindspore = import_mindspore()
    disabled = logging.root.manager.disable
    logging.disable()  # MindSpore logs about each missing GPU library; the error says it
    try:
        if mindspore.get_context("device_target") != device_target:
            # Refused, also for the same device, once the program has computed anything with MindSpore.
            mindspore.set_device(device_target)
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ExportError(
            f"device target {device_target!r} cannot be used: {first_sentence(error)}", hint="CPU always works"
        ) from None
    finally:
        logging.disable(disabled)


@contextmanager
def mindspore_errors() -> Iterator[None]:
    """Convert exceptions of MindSpore in the block to :class:`ExportError`."""
    try:
        yield
    except (MindflError, OSError):
        raise
    except Exception as error:
        cause = first_sentence(error).rstrip(".")
        raise ExportError(f"MindSpore failed: {cause}{raised_where(error)}") from error
