"""The operators a MindSpore Lite file may hold, and how their attributes lie in the file.

Every operator of MindSpore Lite's schema is decoded under its name, whether the runtime executes it or not; a tag that
the schema does not have is decoded as ``operator#<tag>``. Absent attributes have the schema's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mindfl.flatbuf import Table
from mindfl.lite.operator_table import OPERATOR_TABLE
from mindfl.lite.ops import EXECUTED

#: what an attribute holds
AttributeValue = int | float | bool | tuple[int, ...]

_NOT_DECODED = "*"


@dataclass(frozen=True)
class Attribute:
    """One attribute: its slot, name, and kind (a struct code, or ``q[]`` for a vector of int64)."""

    slot: int
    name: str
    kind: str
    default: float = 0

    def read(self, table: Table | None) -> AttributeValue:
        """Return the value in an operator's table, or the default where it, or the table, is absent."""
        if self.kind == "q[]":
            vector = table.array(self.slot, "<i8") if table is not None else None
            return () if vector is None else tuple(int(item) for item in vector)
        default = self.default if self.kind == "f" else bool(self.default) if self.kind == "?" else int(self.default)
        return default if table is None else table.scalar(self.slot, self.kind, default)


@dataclass(frozen=True)
class Operator:
    """One operator: its union tag, its name, its attributes, and the fewest inputs and outputs a node may have."""

    tag: int
    name: str
    attributes: tuple[Attribute, ...] = ()
    inputs: int = 0
    outputs: int = 0

    def read(self, table: Table | None) -> Mapping[str, AttributeValue]:
        """Return all attributes of one node."""
        return MappingProxyType({item.name: item.read(table) for item in self.attributes})


def _operator(line: str) -> Operator:
    tag, name, *attributes = line.split()
    known = EXECUTED.get(name)
    least = (known.inputs, known.outputs) if known is not None else (0, 0)
    return Operator(int(tag), name, tuple(_attributes(attributes)), *least)


def _attributes(texts: list[str]) -> list[Attribute]:
    found = []
    for slot, text in enumerate(texts):
        name, _, rest = text.partition(":")
        kind, _, default = rest.partition("=")
        if kind != _NOT_DECODED:
            found.append(Attribute(slot, name, kind, float(default or 0)))
    return found


#: union tag -> operator
OPERATORS: Mapping[int, Operator] = MappingProxyType(
    {
        operator.tag: operator
        for operator in map(
            _operator, [*OPERATOR_TABLE.strip().splitlines(), *(known.row for known in EXECUTED.values())]
        )
    }
)
