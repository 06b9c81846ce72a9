"""One function per operator: what a node of the graph becomes in instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType

from mindfl.errors import ModelFormatError
from mindfl.lite.graph import need
from mindfl.lite.kernels.emitter import VECTOR
from mindfl.lite.model import Node
from mindfl.lite.ops.conv import first_sum, lower_conv, lower_filter_grad, lower_input_grad
from mindfl.lite.ops.elements import ADD, DIVIDE, MULTIPLY, SUBTRACT, arithmetic, reduction, same_order, tile
from mindfl.lite.ops.loss import cross_entropy, one_hot, sparse_cross_entropy
from mindfl.lite.ops.pool import lower_pool, lower_pool_grad
from mindfl.lite.ops.registry import OPERANDS
from mindfl.lite.plan import Plan, mark_fused
from mindfl.lite.program import Update, Value
from mindfl.lite.schema import NO_ACTIVATION, RELU
from mindfl.lite.shapes import alike, core, last_axis, matrix

Lowering = Callable[[Plan, Node], None]


def _activation(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    x = plan.batched(node, 0)
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit("RELU", x=x.offset, y=y.offset, size=x.size * plan.lanes)


def _activation_grad(plan: Plan, node: Node) -> None:
    kind = node.integer("type")
    if kind == NO_ACTIVATION:
        same_order(plan, node)
        return
    need(kind == RELU, node, f"activation {kind}")
    dy, y = plan.batched(node, 0), plan.batched(node, 1)
    need(alike(dy.dims, y.dims), node, f"shapes {dy.dims} and {y.dims}")
    dx = plan.keep(node.outputs[0], plan.new_batch(dy.dims))
    plan.builder.emit("RELU_GRAD", dy=dy.offset, y=y.offset, dx=dx.offset, size=dy.size * plan.lanes)


def _matmul(plan: Plan, node: Node) -> None:
    a, b = (_as_matrix(plan, node, place) for place in (0, 1))
    if a.batched and not b.batched and not node.flag("transpose_a"):
        _dense(plan, node, a, b)
    elif a.batched and b.batched and node.flag("transpose_a") and not node.flag("transpose_b"):
        _outer(plan, node, a, b)
    else:
        need(False, node, "operands in an order other than x*W, dy*W or dy^T*x")


def _as_matrix(plan: Plan, node: Node, place: int) -> Value:
    """Return an operand as a matrix; of a tensor that carries the batch its samples are the rows."""
    value = plan.value(node.inputs[place])
    one_axis = len(core(value.dims[1:])) <= 1
    dims = matrix(value.dims) if not value.batched else (plan.batch, value.size) if one_axis else None
    if dims is None:
        raise ModelFormatError(f"node {node.label} uses operands of shapes that are no matrices: {value.dims}")
    return replace(value, dims=dims)


def _dense(plan: Plan, node: Node, x: Value, weight: Value) -> None:
    fusion = plan.graph.fusion(node)
    rows_first = node.flag("transpose_b")
    rows, columns = weight.dims if rows_first else weight.dims[::-1]
    need(x.dims[1] == columns, node, f"shapes {x.dims} and {weight.dims}")
    y = plan.keep(fusion.output, plan.new_batch((plan.batch, rows)))
    mark_fused(plan, node, fusion.output)
    plan.builder.emit(
        "DENSE",
        x=x.offset,
        weight=weight.offset,
        y=y.offset,
        start=first_sum(plan, node, fusion, rows),
        relu=fusion.relu,
        row_step=columns if rows_first else 1,
        column_step=1 if rows_first else rows,
        x_table=plan.builder.entries(column * plan.lanes for column in range(columns)),
        rows=rows,
        columns=columns,
        lanes=plan.lanes,
    )


def _outer(plan: Plan, node: Node, a: Value, b: Value) -> None:
    need(node.integer("activation") == NO_ACTIVATION and len(node.inputs) == 2, node, "a fused bias or activation")
    rows, columns = a.dims[1], b.dims[1]
    b_lanes = -(-columns // VECTOR) * VECTOR
    builder = plan.builder

    def transposed() -> int:
        place = builder.allocate(plan.batch * b_lanes)
        builder.emit(
            "TRANSPOSE", x=b.offset, y=place, rows=columns, columns=plan.batch, x_lanes=plan.lanes, y_lanes=b_lanes
        )
        return place

    y = plan.keep(node.outputs[0], plan.new_parameter((rows, columns)))
    builder.emit(
        "OUTER",
        a=a.offset,
        b=plan.once(("transposed", node.inputs[1]), transposed),
        y=y.offset,
        tail=plan.once(("tail", rows), lambda: builder.allocate(rows * VECTOR)),
        b_table=builder.entries(n * b_lanes for n in range(plan.batch)),
        rows=rows,
        columns=columns,
        batch=plan.batch,
        a_lanes=plan.lanes,
    )


def _bias_add(plan: Plan, node: Node) -> None:
    x, bias = plan.batched(node, 0), plan.fixed(node, 1)
    channels = last_axis(x.dims[1:])
    need(len(x.dims) > 1 and bias.size == channels, node, f"a bias of {bias.size} for shape {x.dims}")
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit(
        "BIAS", x=x.offset, bias=bias.offset, y=y.offset, rows=x.size, channels=channels, lanes=plan.lanes
    )


def _bias_add_grad(plan: Plan, node: Node) -> None:
    dy = plan.batched(node, 0)
    need(len(dy.dims) > 1, node, f"shape {dy.dims}")
    channels = last_axis(dy.dims[1:])
    y = plan.keep(node.outputs[0], plan.new_parameter((channels,)))
    plan.builder.emit(
        "BIAS_GRAD",
        dy=dy.offset,
        y=y.offset,
        rows=dy.size,
        channels=channels,
        lanes=plan.lanes,
        batch=plan.batch,
    )


def _transpose(plan: Plan, node: Node) -> None:
    x = plan.batched(node, 0)
    order = plan.integers(node.inputs[1])
    need(sorted(order) == list(range(len(x.dims))), node, f"order {order[:8]} of shape {x.dims}")
    need(order[0] == 0, node, "a transpose of the batch dimension")
    dims = tuple(x.dims[axis] for axis in order)
    y = plan.keep(node.outputs[0], plan.new_batch(dims))
    steps = [math.prod(x.dims[axis + 1 :]) for axis in order[1:]]
    rows = [sum(map(math.prod, zip(place, steps, strict=True))) for place in product(*map(range, dims[1:]))]
    plan.gather(x.offset, y.offset, rows)


def _add_n(plan: Plan, node: Node) -> None:
    terms = [plan.value(tensor) for tensor in node.inputs]
    first = terms[0]
    equal = all(term.batched == first.batched and alike(term.dims, first.dims) for term in terms)
    need(equal and len(terms) > 1, node, "terms of unequal shapes")
    y = plan.keep(node.outputs[0], plan.new_batch(first.dims) if first.batched else plan.new_parameter(first.dims))
    size = first.size * (plan.lanes if first.batched else 1)
    total = first.offset
    for term in terms[1:]:
        plan.builder.emit("ADD", a=total, b=term.offset, y=y.offset, size=size)
        total = y.offset


def _assign(plan: Plan, node: Node) -> None:
    variable, value = plan.fixed(node, 0), plan.fixed(node, 1)
    need(variable.size == value.size and node.inputs[0] in plan.graph.constants, node, "an unequal or computed target")
    plan.builder.emit("COPY", x=value.offset, y=variable.offset, size=variable.size)


def _offsets(plan: Plan, node: Node, names: tuple[str, ...], count: int) -> dict[str, int]:
    """Return the offsets of an optimizer's inputs by name, after checking that the arrays have the weight's size."""
    need(len(node.inputs) == len(names), node, f"{len(node.inputs)} inputs")
    values = {name: plan.fixed(node, place) for place, name in enumerate(names)}
    written = ("weight", "state", "first", "mean", "variance")
    wrong = [name for name, value in values.items() if value.size != (count if name in (*written, "gradient") else 1)]
    need(not wrong, node, f"a {', '.join(wrong)} of another size than the weight")
    weight, gradient = values["weight"].dims, values["gradient"].dims
    need(alike(weight, gradient), node, f"a gradient of shape {gradient} for a weight of shape {weight}")
    constant = dict(zip(names, (tensor in plan.graph.constants for tensor in node.inputs), strict=True))
    need(all(constant[name] for name in names if name in written), node, "a computed state")
    return {name: value.offset for name, value in values.items()}


def _optimizer(plan: Plan, node: Node) -> None:
    instruction, names, reals = _OPTIMIZER_FORMS[node.op]
    size = plan.fixed(node, 0).size
    offsets = _offsets(plan, node, names, size)
    for operand, attribute in reals.items():
        offsets[operand] = plan.literal(node.real(attribute))
    column = 1 + OPERANDS[instruction].index("gradient")
    name = plan.tensor(node.inputs[0]).name
    plan.updates.append(Update(name, plan.builder.rows, column, offsets["gradient"], offsets["weight"], size))
    plan.builder.emit(instruction, size=size, nesterov=node.flag("nesterov"), **offsets)


#: operator -> instruction, names of its inputs in order, operand -> attribute for the numbers it carries
_OPTIMIZER_FORMS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, str]]] = MappingProxyType(
    {
        "ApplyMomentum": ("MOMENTUM", ("weight", "state", "rate", "gradient", "momentum"), {"scale": "gradient_scale"}),
        "SGD": (
            "SGD",
            ("weight", "gradient", "rate", "state", "momentum", "first"),
            {"dampening": "dampening", "decay": "weight_decay"},
        ),
        "Adam": (
            "ADAM",
            (
                *("weight", "mean", "variance", "beta1_power", "beta2_power"),
                *("rate", "beta1", "beta2", "epsilon", "gradient"),
            ),
            {},
        ),
    }
)

#: operator -> lowering
LOWERINGS: Mapping[str, Lowering] = MappingProxyType(
    {
        "Activation": _activation,
        "ActivationGrad": _activation_grad,
        "Adam": _optimizer,
        "AddFusion": arithmetic(ADD),
        "AddN": _add_n,
        "ApplyMomentum": _optimizer,
        "Assign": _assign,
        "BiasAdd": _bias_add,
        "BiasAddGrad": _bias_add_grad,
        "Conv2DBackpropFilterFusion": lower_filter_grad,
        "Conv2DBackpropInputFusion": lower_input_grad,
        "Conv2DFusion": lower_conv,
        "Depend": same_order,
        "DivFusion": arithmetic(DIVIDE),
        "ExpandDims": same_order,
        "Flatten": same_order,
        "FlattenGrad": same_order,
        "MatMulFusion": _matmul,
        "MaxPoolFusion": lower_pool,
        "MaxPoolGrad": lower_pool_grad,
        "MulFusion": arithmetic(MULTIPLY),
        "OneHot": one_hot,
        "RealDiv": arithmetic(DIVIDE),
        "ReduceFusion": reduction,
        "Reshape": same_order,
        "SGD": _optimizer,
        "SoftmaxCrossEntropyWithLogits": cross_entropy,
        "SparseSoftmaxCrossEntropyWithLogits": sparse_cross_entropy,
        "Squeeze": same_order,
        "SubFusion": arithmetic(SUBTRACT),
        "TileFusion": tile,
        "Transpose": _transpose,
        "Unsqueeze": same_order,
    }
)
