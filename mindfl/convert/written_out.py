"""Operators that the converter does not know, written out of operators that it knows: how each is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.convert.graph_editor import GraphEditor, Value, node_label
from mindfl.convert.mindir import Proto
from mindfl.errors import MindirError
from mindfl.lite.model import UNCONVERTED

#: attributes of MatMul in version 1
_TRANSPOSED = ("transpose_a", "transpose_b", "transpose_x1", "transpose_x2")


class NodeWriter:
    """Collects the nodes that replace ``node``.

    Attributes:
        editor: the graph.
        node: the node that is replaced.
        nodes: the new nodes, in the order in which they are computed.
    """

    def __init__(self, editor: GraphEditor, node: Proto) -> None:
        self.editor = editor
        self.node = node
        self.nodes: list[Proto] = []

    def setting(self, place: int) -> Value:
        """Return a constant input of the node."""
        return self.editor.value(self.node, self.node.input[place])

    def number(self, place: int) -> float:
        """Return a constant input that must be a number, or a tensor of one."""
        held = self.editor.array(self.node.input[place])
        value = self.setting(place) if held is None or held.size != 1 else held.item()
        if not isinstance(value, int | float):
            raise self.refusal(f"has the setting {value!r}, which is no number")
        return float(value)

    def axes(self, place: int) -> tuple[int, ...]:
        """Return a constant input that is one axis or several."""
        value = self.setting(place)
        return value if isinstance(value, tuple) else (int(self.number(place)),)

    def refusal(self, problem: str) -> MindirError:
        """Return the error that the node cannot be written out."""
        return MindirError(f"node {node_label(self.node)} {problem}", hint=UNCONVERTED)

    def constant(self, value: float | tuple[int, ...]) -> str:
        """Add a constant: a tensor without dimensions, or whole numbers such as axes."""
        return self.array(value if isinstance(value, tuple) else np.array(value, np.float32))

    def alike(self, number: float, like: str) -> str:
        """Add a constant of one number, of the type of a value: float32 or int32."""
        kind = self.editor.type_of(like)
        if kind == np.dtype(np.int32) and number == int(number):
            return self.array(np.array(int(number), kind))
        if kind not in (None, np.dtype(np.float32)):
            raise self.refusal(f"calculates with {number} and {kind}, which is not converted")
        return self.constant(number)

    def array(self, value: tuple[int, ...] | NDArray[Any]) -> str:
        """Add a constant."""
        self.nodes.append(self.editor.new_constant(value))
        return str(self.nodes[-1].output[0])

    def add(self, operator: str, *inputs: str, **attributes: Value) -> str:
        """Add a node; return its output."""
        self.nodes.append(self.editor.new_node(self.node, operator, inputs, **attributes))
        return str(self.nodes[-1].output[0])

    def sum(self, value: str, axes: tuple[int, ...], *, keep_dims: bool) -> str:
        """Add a sum over axes."""
        return self.add("ReduceSum", value, self.constant(axes), keep_dims=keep_dims, skip_mode=False)

    def mean(self, value: str, axes: tuple[int, ...]) -> str:
        """Add a mean over axes, which stay with a size of 1."""
        return self.add("ReduceMean", value, self.constant(axes), keep_dims=True)

    def product(self, first: str, second: str, *, turned: bool = False) -> str:
        """Add the product of two matrices; ``turned``: of the first with the transposed second."""
        settings: dict[str, Value] = dict.fromkeys(_TRANSPOSED, False)
        return self.add("MatMul", first, second, **settings | {"transpose_b": turned, "transpose_x2": turned})

    def products(self, first: str, second: str) -> str:
        """Add the products of two stacks of matrices."""
        return self.add("BatchMatMul", first, second, **dict.fromkeys((*_TRANSPOSED, "adj_x1", "adj_x2"), False))

    def apart(self, value: str) -> str:
        """Add a value negated twice: no bit changes, and the converter takes neither value nor layout through it."""
        return self.add("Neg", self.add("Neg", value))

    def part(self, value: str, axis: int, begin: int, size: int) -> str:
        """Add ``size`` places along an axis, from ``begin`` on."""
        begins, shape = [0] * len(self.editor.shape_of(value)), list(self.editor.shape_of(value))
        begins[axis], shape[axis] = begin, size
        part = self.add("Slice", value, self.constant(tuple(begins)), self.constant(tuple(shape)))
        self.editor.state_shape(self.nodes[-1], shape)
        return part

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """Add another shape of a value."""
        return self.add("Reshape", value, self.constant(shape))


#: adds the nodes that replace one, and returns their outputs, in the order of its own
Form = Callable[[NodeWriter], list[str]]
#: operators that are written out
WRITTEN_OUT: dict[str, Form] = {}


def written_out(*operators: str) -> Callable[[Form], Form]:
    """Register how nodes of these operators are written out."""

    def register(form: Form) -> Form:
        WRITTEN_OUT.update(dict.fromkeys(operators, form))
        return form

    return register
