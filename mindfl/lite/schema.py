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

#: what an attribute holds
AttributeValue = int | float | bool | tuple[int, ...]

RELU = 1
PAD_EXPLICIT, PAD_SAME, PAD_VALID = 0, 1, 2
NO_ACTIVATION = 0
REDUCE_MEAN, REDUCE_SUM = 0, 4

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


#: the operators that the runtime executes -> the fewest inputs and outputs of a node
EXECUTED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "Activation": (1, 1),
        "ActivationGrad": (2, 1),
        "Adam": (10, 0),
        "AddFusion": (2, 1),
        "AddN": (1, 1),
        "ApplyMomentum": (5, 0),
        "Assign": (2, 0),
        "BiasAdd": (2, 1),
        "BiasAddGrad": (1, 1),
        "Conv2DBackpropFilterFusion": (2, 1),
        "Conv2DBackpropInputFusion": (2, 1),
        "Conv2DFusion": (2, 1),
        "Depend": (1, 1),
        "DivFusion": (2, 1),
        "ExpandDims": (1, 1),
        "Flatten": (1, 1),
        "FlattenGrad": (1, 1),
        "MatMulFusion": (2, 1),
        "MaxPoolFusion": (1, 1),
        "MaxPoolGrad": (3, 1),
        "MulFusion": (2, 1),
        "OneHot": (4, 1),
        "RealDiv": (2, 1),
        "ReduceFusion": (1, 1),
        "Reshape": (1, 1),
        "SGD": (6, 0),
        "SoftmaxCrossEntropyWithLogits": (2, 1),
        "SparseSoftmaxCrossEntropyWithLogits": (2, 1),
        "Squeeze": (1, 1),
        "SubFusion": (2, 1),
        "TileFusion": (1, 1),
        "Transpose": (2, 1),
        "Unsqueeze": (1, 1),
    }
)

#: optimizers: they change a trainable parameter (their input 0); the value is the input that is the learning rate
OPTIMIZERS: Mapping[str, int] = MappingProxyType({"Adam": 5, "AdamWeightDecay": 3, "ApplyMomentum": 2, "SGD": 2})


def _operator(line: str) -> Operator:
    tag, name, *attributes = line.split()
    least = EXECUTED.get(name, (1, 0) if name in OPTIMIZERS else (0, 0))
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
    {operator.tag: operator for operator in map(_operator, OPERATOR_TABLE.strip().splitlines())}
)
