"""Helpers of commands: interruptions, warnings for options without effect, JSON output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from mindfl.cli.interrupts import is_interrupted
from mindfl.errors import InterruptedRunError, MindflError
from mindfl.notices import Rule, Settings, without_effect


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Report Ctrl-C and SIGTERM as a documented error with ``hint``."""
    try:
        yield
    except MindflError:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if not is_interrupted(error):
            raise
        raise InterruptedRunError("interrupted", hint=hint) from None


def is_given(context: click.Context, name: str) -> bool:
    """Return whether the user gave the parameter ``name``."""
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def name_unused(
    rules: Iterable[Rule[Settings]], settings: Settings, is_chosen: Callable[[str], bool] | None = None
) -> None:
    """Warn of each chosen option that has no effect by ``rules``; by default those that the user gave are chosen."""
    context = click.get_current_context()
    for text in without_effect(rules, settings, is_chosen or (lambda name: is_given(context, name))):
        click.echo(f"mindfl: warning: {text}", err=True)


def echo_json(value: Any) -> None:
    """Print ``value`` as indented JSON; infinite numbers and NaN become null. Characters that standard output cannot
    show are escaped."""
    value = _finite(value)
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=str)
    click.echo(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
