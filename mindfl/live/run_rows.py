"""Rows of ``history.jsonl`` as the page gets them: clients by number instead of by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

#: what is not a number of the round
_NAMED = ("accuracies", "participants", "per_class", "metrics", "refusals")
_TEXTS = ("measured", "metric", "reason")


class ClientNumbers:
    """Numbers of clients by name: those of ``clients.csv``, and behind them others in the order in which they came."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self.add(names)
        #: so many have a folder ``client_{number}``
        self.listed = len(self.names)

    def add(self, names: Iterable[str]) -> None:
        """Number the names that are new."""
        for name in names:
            if name not in self._numbers:
                self._numbers[name] = len(self.names)
                self.names.append(name)

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]


def from_json(text: str | bytes) -> Any:
    """Return what a text in JSON holds, with None for numbers that are not finite, as ``NaN`` and ``1e999``.

    Browsers read no such number. Raises ``ValueError`` or ``RecursionError`` if the text is no JSON.

    Example:
        >>> from_json("[0.5, NaN, -1e999]")
        [0.5, None, None]
    """
    return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return the row in a line of ``history.jsonl``; None for a line that holds none. Infinite numbers become None."""
    try:
        row = from_json(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not _is_whole(row.get("iteration")):
        return None
    accuracies, taken = row.get("accuracies", {}), row.get("participants", [])
    if not isinstance(accuracies, dict) or not all(value is None or is_number(value) for value in accuracies.values()):
        return None
    if not isinstance(taken, list) or not all(_is_whole(number) for number in taken):
        return None
    return row


def for_the_page(row: Mapping[str, Any], numbers: ClientNumbers) -> dict[str, Any]:
    """Return ``row`` with the clients' accuracies as two lists, numbers and values; ``who`` is None for clients 0, 1,
    2, ... in this order."""
    accuracies = row.get("accuracies", {})
    who = [numbers[name] for name in accuracies]
    shown = {name: value for name, value in row.items() if is_number(value) or isinstance(value, bool | None)}
    texts = {name: row[name] for name in _TEXTS if isinstance(row.get(name), str)}
    counts = {name: _numbers_of(row.get(name)) for name in ("metrics", "refusals", "per_class")}
    return {
        **{name: value for name, value in shown.items() if name not in _NAMED},
        **texts,
        **{name: found for name, found in counts.items() if found},
        "who": None if who == list(range(len(who))) else who,
        "values": list(accuracies.values()),
        "participants": row.get("participants") or None,
    }


def _numbers_of(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if is_number(value)}


def is_number(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a number, which truth values are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
