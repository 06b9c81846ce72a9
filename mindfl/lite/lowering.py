"""One function per operator: what a node of the graph becomes in instructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from types import MappingProxyType

import numpy as np

from mindfl.lite.graph import need
from mindfl.lite.kernels.emitter import VECTOR
from mindfl.lite.lowering_conv import first_sum, lower_conv, lower_filter_grad, lower_input_grad
from mindfl.lite.lowering_pool import lower_pool, lower_pool_grad
from mindfl.lite.model import Node
from mindfl.lite.plan import Plan, mark_fused
from mindfl.lite.program import Value
from mindfl.lite.schema import NO_ACTIVATION, RELU

Lowering = Callable[[Plan, Node], None]


def _activation(plan: Plan, node: Node) -> None:
    need(node.integer("type") == RELU, node, f"activation {node.integer('type')}")
    x = plan.batched(node, 0)
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit("RELU", x=x.offset, y=y.offset, size=x.size * plan.lanes)


def _activation_grad(plan: Plan, node: Node) -> None:
    need(node.integer("type") == RELU, node, f"activation {node.integer('type')}")
    dy, y = plan.batched(node, 0), plan.batched(node, 1)
    need(dy.dims == y.dims, node, f"shapes {dy.dims} and {y.dims}")
    dx = plan.keep(node.outputs[0], plan.new_batch(dy.dims))
    plan.builder.emit("RELU_GRAD", dy=dy.offset, y=y.offset, dx=dx.offset, size=dy.size * plan.lanes)


def _matmul(plan: Plan, node: Node) -> None:
    a, b = plan.value(node.inputs[0]), plan.value(node.inputs[1])
    need(len(a.dims) == 2 and len(b.dims) == 2, node, f"shapes {a.dims} and {b.dims}")
    if a.batched and not b.batched and not node.flag("transpose_a"):
        _dense(plan, node, a, b)
    elif a.batched and b.batched and node.flag("transpose_a") and not node.flag("transpose_b"):
        _outer(plan, node, a, b)
    else:
        need(False, node, "operands in an order other than x*W, dy*W or dy^T*x")


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
    need(len(x.dims) > 1 and bias.size == x.dims[-1], node, f"a bias of {bias.size} for shape {x.dims}")
    y = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    plan.builder.emit(
        "BIAS", x=x.offset, bias=bias.offset, y=y.offset, rows=x.size, channels=x.dims[-1], lanes=plan.lanes
    )


def _bias_add_grad(plan: Plan, node: Node) -> None:
    dy = plan.batched(node, 0)
    need(len(dy.dims) > 1, node, f"shape {dy.dims}")
    y = plan.keep(node.outputs[0], plan.new_parameter((dy.dims[-1],)))
    plan.builder.emit(
        "BIAS_GRAD",
        dy=dy.offset,
        y=y.offset,
        rows=dy.size,
        channels=dy.dims[-1],
        lanes=plan.lanes,
        batch=plan.batch,
    )


def _same_order(plan: Plan, node: Node) -> None:
    """Flatten and Reshape keep the elements of a sample in order: no work, a new shape."""
    x = plan.value(node.inputs[0])
    dims = plan.tensor(node.outputs[0]).dims
    need(math.prod(dims) == math.prod(x.dims), node, f"shapes {x.dims} and {dims}")
    need(not x.batched or dims[:1] == (plan.batch,), node, "a reshape across the batch")
    plan.keep(node.outputs[0], Value(x.offset, dims, x.batched))


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


def _loss(plan: Plan, node: Node) -> None:
    logits = plan.batched(node, 0)
    labels = plan.tensor(node.inputs[1])
    need(labels.index in plan.graph.model.inputs and labels.dtype == np.int32, node, "labels that are no int32 input")
    need(labels.dims == (plan.batch,), node, f"labels of shape {labels.dims}")
    need(logits.dims == (plan.batch, *plan.graph.logits.dims[-1:]), node, f"logits of shape {logits.dims}")
    sizes = {"classes": logits.dims[1], "batch": plan.batch, "lanes": plan.lanes}
    if node.flag("is_grad"):
        dx = plan.keep(node.outputs[0], plan.new_batch(logits.dims))
        plan.builder.emit("LOSS_GRAD", logits=logits.offset, dx=dx.offset, **sizes)
    else:
        loss = plan.keep(node.outputs[0], plan.new_parameter((1,)))
        plan.builder.emit("LOSS", logits=logits.offset, loss=loss.offset, **sizes)


def _mul(plan: Plan, node: Node) -> None:
    a, b = plan.fixed(node, 0), plan.fixed(node, 1)
    need(node.integer("activation") == NO_ACTIVATION, node, "a fused activation")
    need(a.size == b.size or 1 in (a.size, b.size), node, f"shapes {a.dims} and {b.dims}")
    y = plan.keep(node.outputs[0], plan.new_parameter(a.dims if a.size >= b.size else b.dims))
    plan.builder.emit("MULTIPLY", a=a.offset, b=b.offset, y=y.offset, size=y.size, a_step=a.size > 1, b_step=b.size > 1)


def _add_n(plan: Plan, node: Node) -> None:
    terms = [plan.value(tensor) for tensor in node.inputs]
    first = terms[0]
    need(len({(term.dims, term.batched) for term in terms}) == 1 and len(terms) > 1, node, "terms of unequal shapes")
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
    constant = dict(zip(names, (tensor in plan.graph.constants for tensor in node.inputs), strict=True))
    need(all(constant[name] for name in names if name in written), node, "a computed state")
    return {name: value.offset for name, value in values.items()}


def _optimizer(plan: Plan, node: Node) -> None:
    instruction, names, reals = _OPTIMIZER_FORMS[node.op]
    size = plan.fixed(node, 0).size
    offsets = _offsets(plan, node, names, size)
    for operand, attribute in reals.items():
        offsets[operand] = plan.literal(node.real(attribute))
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
        "AddN": _add_n,
        "ApplyMomentum": _optimizer,
        "Assign": _assign,
        "BiasAdd": _bias_add,
        "BiasAddGrad": _bias_add_grad,
        "Conv2DBackpropFilterFusion": lower_filter_grad,
        "Conv2DBackpropInputFusion": lower_input_grad,
        "Conv2DFusion": lower_conv,
        "Flatten": _same_order,
        "MatMulFusion": _matmul,
        "MaxPoolFusion": lower_pool,
        "MaxPoolGrad": lower_pool_grad,
        "MulFusion": _mul,
        "Reshape": _same_order,
        "SGD": _optimizer,
        "SparseSoftmaxCrossEntropyWithLogits": _loss,
        "Transpose": _transpose,
    }
)
