"""What LeNet needs of operators on single elements: ReLU, sums of arrays of one shape, products of weights by numbers.

The rest is in :mod:`mindfl.lite.ops.arithmetic`, ``functions``, ``activations`` and ``reductions``. Where only a layer
feeds a ReLU, the layer computes it too (``Graph.fusion``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import clear_lanes
from mindfl.lite.ops.maps import floats, like, side_by_side
from mindfl.lite.ops.registry import instruction, need, operator

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)


@instruction("RELU", "x y size")
def relu_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = max(x, 0), NaN kept."""
    source, target = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]]
    for n in range(source.size):
        value = source[n]
        target[n] = _ZERO if value < _ZERO else value


@instruction("RELU_GRAD", "dy y dx size")
def relu_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """dx = dy where the forward output is positive, else 0."""
    size = i[4]
    gradient, output, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    for n in range(size):
        target[n] = gradient[n] if output[n] > _ZERO else _ZERO


@operator("8 AddN")
def _add_n(plan: Plan, node: Node) -> None:
    need(len(node.inputs) > 1, node, "one term")
    left = tuple(place for place, tensor in enumerate(node.inputs) if tensor not in plan.added_up)
    terms = side_by_side(plan, node, left)
    first = terms[0]
    if len(terms) == 1:
        plan.keep(node.outputs[0], first)
        return
    y, size = like(plan, node, first), floats(plan, first)
    total = first.offset
    for term in terms[1:]:
        plan.builder.emit("ADD", a=total, b=term.offset, y=y.offset, size=size)
        total = y.offset


@instruction("MULTIPLY", "a b y size a_step b_step")
def multiply_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a * b; a step of 0 repeats one value."""
    a, b, y, size, a_step, b_step = i[1], i[2], i[3], i[4], i[5], i[6]
    for n in range(size):
        arena[y + n] = arena[a + n * a_step] * arena[b + n * b_step]


@instruction("ADD", "a b y size")
def add_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = a + b."""
    a, b, y, size = i[1], i[2], i[3], i[4]
    for n in range(size):
        arena[y + n] = arena[a + n] + arena[b + n]


@instruction("CLEAR", "y rows count lanes")
def clear_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = 0 in the lanes behind the batch, from ``count`` on."""
    clear_lanes(arena, i[1], i[2], i[3], i[4])
