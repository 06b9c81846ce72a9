"""The operators a MindSpore Lite training file may hold, and how their attributes lie in the file.

Numbers are those of the MindSpore Lite 2.0.0 schema as observed in converted files. An operator that is not in
:data:`OPERATORS` is still decoded (as ``operator#<tag>``), so that a file can be listed, and refused by name when it is
to be executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mindfl.flatbuf import Table

#: what an attribute holds
AttributeValue = int | float | bool | tuple[int, ...]

RELU = 1
PAD_EXPLICIT, PAD_SAME, PAD_VALID = 0, 1, 2
NO_ACTIVATION = 0


@dataclass(frozen=True)
class Attribute:
    """One attribute: its slot, name, and kind (a struct code, or ``q[]`` for a vector of int64)."""

    slot: int
    name: str
    kind: str
    default: float = 0

    def read(self, table: Table) -> AttributeValue:
        """Return the value in an operator's table, or the default where it is absent."""
        if self.kind == "q[]":
            vector = table.array(self.slot, "<i8")
            return () if vector is None else tuple(int(item) for item in vector)
        return table.scalar(self.slot, self.kind, self.default)


@dataclass(frozen=True)
class Operator:
    """One operator: its union tag, its name, its attributes, and the fewest inputs and outputs a node may have."""

    tag: int
    name: str
    attributes: tuple[Attribute, ...] = ()
    inputs: int = 1
    outputs: int = 1

    def read(self, table: Table | None) -> Mapping[str, AttributeValue]:
        """Return all attributes of one node."""
        if table is None:
            return MappingProxyType({})
        return MappingProxyType({item.name: item.read(table) for item in self.attributes})


def _convolution(tag: int, name: str, *, pad_slot: int) -> Operator:
    """Describe a convolution operator; the input gradient has one more vector before its padding."""
    last = pad_slot
    return Operator(
        tag,
        name,
        (
            Attribute(0, "format", "i"),
            Attribute(1, "kernel_size", "q[]"),
            Attribute(2, "stride", "q[]"),
            Attribute(3, "dilation", "q[]"),
            Attribute(4, "pad_mode", "b"),
            Attribute(last, "pad_list", "q[]"),
            Attribute(last + 1, "mode", "q"),
            Attribute(last + 2, "group", "q"),
            Attribute(last + 3, "in_channel", "q"),
            Attribute(last + 4, "out_channel", "q"),
            Attribute(last + 5, "activation", "b"),
        ),
        inputs=2,
    )


_ALL = (
    Operator(2, "Activation", (Attribute(0, "type", "b"), Attribute(1, "alpha", "f"))),
    Operator(3, "ActivationGrad", (Attribute(0, "type", "b"), Attribute(1, "alpha", "f")), inputs=2),
    Operator(4, "Adam", (Attribute(0, "locking", "?"), Attribute(1, "nesterov", "?")), inputs=10, outputs=0),
    Operator(8, "AddN"),
    Operator(
        10,
        "ApplyMomentum",
        # MindSpore Lite's kernel does not read gradient_scale, so an absent one must not mean 0
        (Attribute(0, "nesterov", "?"), Attribute(1, "locking", "?"), Attribute(2, "gradient_scale", "f", 1.0)),
        inputs=5,
        outputs=0,
    ),
    Operator(14, "Assign", inputs=2, outputs=0),
    Operator(23, "BiasAdd", (Attribute(0, "format", "q"),), inputs=2),
    Operator(26, "BiasAddGrad"),
    _convolution(33, "Conv2DBackpropFilterFusion", pad_slot=5),
    _convolution(34, "Conv2DBackpropInputFusion", pad_slot=6),
    _convolution(35, "Conv2DFusion", pad_slot=5),
    Operator(61, "Flatten", (Attribute(0, "axis", "q", 1),)),
    Operator(
        89,
        "MatMulFusion",
        (Attribute(0, "transpose_a", "?"), Attribute(1, "transpose_b", "?"), Attribute(2, "activation", "b")),
        inputs=2,
    ),
    Operator(
        92,
        "MaxPoolFusion",
        (
            Attribute(0, "kernel_size", "q[]"),
            Attribute(1, "strides", "q[]"),
            Attribute(2, "pad", "q[]"),
            Attribute(3, "pad_mode", "b"),
            Attribute(4, "round_mode", "b"),
            Attribute(5, "format", "i"),
            Attribute(6, "global", "?"),
            Attribute(7, "activation", "b"),
        ),
    ),
    Operator(
        93,
        "MaxPoolGrad",
        (
            Attribute(0, "kernel_size", "q[]"),
            Attribute(1, "strides", "q[]"),
            Attribute(2, "pad_mode", "b"),
            Attribute(3, "format", "i"),
        ),
        inputs=3,
    ),
    Operator(99, "MulFusion", (Attribute(0, "activation", "b"),), inputs=2),
    Operator(119, "Reshape"),
    Operator(
        129,
        "SGD",
        (Attribute(0, "nesterov", "?"), Attribute(1, "dampening", "f"), Attribute(2, "weight_decay", "f")),
        inputs=6,
        outputs=0,
    ),
    Operator(143, "SparseSoftmaxCrossEntropyWithLogits", (Attribute(0, "is_grad", "?"),), inputs=2),
    Operator(162, "Transpose", inputs=2),
)

#: union tag -> operator
OPERATORS: Mapping[int, Operator] = MappingProxyType({operator.tag: operator for operator in _ALL})

#: the operators that change a trainable parameter (their input 0); the value is the input that is the learning rate
OPTIMIZERS: Mapping[str, int] = MappingProxyType({"Adam": 5, "ApplyMomentum": 2, "SGD": 2})
