"""Griffe extension: what docstrings hold beside Google style, Sphinx roles and the section ``Example:``."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: as in :class:`~mindfl.errors.DataError`
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(?P<short>~?)(?P<name>[\w.]+)`")


_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Link the names that are on the site and show the others as code; let examples be code."""
        if obj.docstring:
            text = _ROLE.sub(lambda role: _link(obj, role), obj.docstring.value)
            obj.docstring.value = _EXAMPLE.sub("Examples:", text)


def _link(scope: griffe.Object, role: re.Match[str]) -> str:
    name = role["name"]
    shown = name.rpartition(".")[2] if role["short"] else name
    try:
        place = scope.resolve(name)
    except griffe.NameResolutionError:
        place = name
    return f'<autoref identifier="{place}" optional><code>{shown}</code></autoref>'
