"""Option helpers shared by the commands: tutorial spellings with a dashed twin, JSON output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mindfl.errors import InterruptedRunError

Command = TypeVar("Command", bound=Callable[..., Any])


def option(*declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """Like :func:`click.option`, where every ``--with_underscores`` also works as ``--with-underscores``."""
    names = list(declarations)
    names += [name.replace("_", "-") for name in declarations if name.startswith("--") and "_" in name]
    attributes.setdefault("show_default", True)
    return click.option(*names, **attributes)


json_option = option("--json", "as_json", is_flag=True, show_default=False, help="Print the result as JSON.")


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Report Ctrl-C and SIGTERM as a documented error, with ``hint``, which says what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted", hint=hint) from None


def is_given(context: click.Context, name: str) -> bool:
    """Say whether the user gave the parameter ``name``, so that its value is not the default."""
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def echo_json(value: Any) -> None:
    """Print ``value`` as one indented JSON document: null for what is no finite number, and escapes where standard
    output cannot show a character."""
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
