"""Option helpers shared by the commands: tutorial spellings with a dashed twin, JSON output."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mindfl.errors import InterruptedRunError
from mindfl.notices import Rule, Settings, without_effect
from mindfl.spelling import check_path

Command = TypeVar("Command", bound=Callable[..., Any])


#: what the first name of an option for a file or folder ends with
_PATH_NAMES = re.compile(
    r"(_path|_dir|_file|_dataset|jarPath|File|input|output|out|sheet|python|converter|config|_model)$"
)


def _refuse_empty(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the value of an option for paths; raise :class:`OptionError` where one is empty."""
    for path in value if isinstance(value, tuple) else (value,):
        check_path(path, parameter.opts[0])
    return value


def option(*declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """Like :func:`click.option`, where every ``--with_underscores`` also works as ``--with-underscores``."""
    names = list(declarations)
    names += [name.replace("_", "-") for name in declarations if name.startswith("--") and "_" in name]
    attributes.setdefault("show_default", True)
    if _PATH_NAMES.search(names[0]) or isinstance(attributes.get("type"), click.Path):
        attributes["callback"] = _refuse_empty
    return click.option(*names, **attributes)


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


def name_unused(
    rules: Iterable[Rule[Settings]], settings: Settings, is_chosen: Callable[[str], bool] | None = None
) -> None:
    """Warn of each option that ``rules`` say has no effect; it is chosen where the user gave it, by default."""
    context = click.get_current_context()
    for text in without_effect(rules, settings, is_chosen or (lambda name: is_given(context, name))):
        click.echo(f"mindfl: warning: {text}", err=True)


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
