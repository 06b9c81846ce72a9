"""Layer normalisation over the last axes of a plain value, and its gradient.

Sums along a row have 16 parts beside each other, so that they are computed as vectors, in the same order everywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import helper, instruction, need, operator
from mindfl.lite.program import Value, alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO = np.float32(0.0)
#: parts of a sum along a row
_PARTS = 16
#: rows whose gradients of gamma and beta are added before their sum is added to that of all
_ROWS = 64


@operator("75 LayerNormFusion begin_norm_axis:q epsilon:f=0.00001 elementwise_affine:? begin_params_axis:q", inputs=3)
def _layer_norm(plan: Plan, node: Node) -> None:
    x = plan.plain(node, 0)
    kept, sizes = _sizes(plan, node, 0)
    gamma, beta = (_parameter(plan, node, place, sizes["parameters"]) for place in (1, 2))
    y = plan.keep(node.outputs[0], plan.new_parameter(x.dims))
    mean, variance = plan.new_parameter(kept), plan.new_parameter(kept)
    for output, saved in zip(node.outputs[1:3], (mean, variance), strict=False):
        plan.keep(output, saved)
    plan.builder.emit(
        "LAYER_NORM",
        x=x.offset,
        y=y.offset,
        gamma=gamma.offset,
        beta=beta.offset,
        mean=mean.offset,
        variance=variance.offset,
        epsilon=plan.literal(node.real("epsilon")),
        parts=plan.once(("parts of a row",), lambda: plan.builder.allocate(2 * _PARTS)),
        **sizes,
    )


@operator("186 LayerNormGrad begin_norm_axis:q begin_params_axis:q", inputs=5, outputs=3)
def _layer_norm_grad(plan: Plan, node: Node) -> None:
    """Inputs are x, dy, the variance, the mean, and gamma. The epsilon is that of the node that saved the variance."""
    forward = plan.graph.producer.get(node.inputs[2])
    if forward is None or forward.op != "LayerNormFusion":
        need(False, node, "a variance that no LayerNormFusion saved")
        return
    x, dy, variance, mean = (plan.plain(node, place) for place in range(4))
    kept, sizes = _sizes(plan, node, 0)
    need(alike(x.dims, dy.dims), node, f"shapes {x.dims} and {dy.dims}")
    right = variance.size == mean.size == math.prod(kept)
    need(right, node, f"{variance.size} variances and {mean.size} means for {math.prod(kept)} rows")
    gamma = _parameter(plan, node, 4, sizes["parameters"])
    dx = plan.keep(node.outputs[0], plan.new_parameter(x.dims))
    dims = plan.tensor(node.inputs[4]).dims
    dgamma, dbeta = (plan.keep(output, plan.new_parameter(dims)) for output in node.outputs[1:3])
    room = 2 * _PARTS + 2 * sizes["parameters"]
    plan.builder.emit(
        "LAYER_NORM_GRAD",
        x=x.offset,
        dy=dy.offset,
        variance=variance.offset,
        mean=mean.offset,
        gamma=gamma.offset,
        dx=dx.offset,
        dgamma=dgamma.offset,
        dbeta=dbeta.offset,
        epsilon=plan.literal(forward.real("epsilon")),
        parts=plan.once(("parts of layer gradients", room), lambda: plan.builder.allocate(room)),
        **sizes,
    )


def _sizes(plan: Plan, node: Node, place: int) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the axes that stay, and as operands the rows, their length, and the size of gamma."""
    dims = plan.tensor(node.inputs[place]).dims
    rank, axes = len(dims), (node.integer("begin_norm_axis"), node.integer("begin_params_axis"))
    need(all(-rank <= axis < rank for axis in axes), node, f"axes {axes} of shape {dims}")
    first, parameters = (axis % rank for axis in axes)
    sizes = {"rows": math.prod(dims[:first]), "columns": math.prod(dims[first:])}
    return dims[:first], {**sizes, "parameters": math.prod(dims[parameters:])}


def _parameter(plan: Plan, node: Node, place: int, size: int) -> Value:
    value = plan.fixed(node, place)
    need(value.size == size, node, f"an input {place} of {value.size} elements where {size} are normalised")
    return value


@instruction("LAYER_NORM", "x y gamma beta mean variance epsilon parts rows columns parameters", error_model="numpy")
def layer_norm_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta for each row."""
    x, y, gamma, beta, mean, variance, epsilon = i[1], i[2], i[3], i[4], i[5], i[6], arena[i[7]]
    rows, columns, parameters = i[9], i[10], i[11]
    parts, inner = arena[i[8] : i[8] + _PARTS], min(columns, parameters)
    for r in range(rows):
        row = arena[x + r * columns : x + (r + 1) * columns]
        center = np.float32(_sum(row, parts) / columns)
        spread = np.float32(_squares(row, center, parts) / columns)
        scale = np.float32(1.0 / math.sqrt(spread + epsilon))
        arena[mean + r], arena[variance + r] = center, spread
        for start in range(0, columns, inner):
            own = (r * columns + start) % parameters
            source, target = row[start : start + inner], arena[y + r * columns + start :][:inner]
            factor, shift = arena[gamma + own :][:inner], arena[beta + own :][:inner]
            for n in range(inner):
                target[n] = (source[n] - center) * scale * factor[n] + shift[n]


@helper
def _sum(row: Any, parts: Any) -> Any:
    """Return the sum of a row."""
    parts[:] = _ZERO
    whole = row.size // _PARTS * _PARTS
    for start in range(0, whole, _PARTS):
        block = row[start : start + _PARTS]
        for n in range(_PARTS):
            parts[n] += block[n]
    total = 0.0
    for n in range(_PARTS):
        total += parts[n]
    for n in range(whole, row.size):
        total += row[n]
    return total


@helper
def _squares(row: Any, center: Any, parts: Any) -> Any:
    """Return the sum of the squares of a row less its mean."""
    parts[:] = _ZERO
    whole = row.size // _PARTS * _PARTS
    for start in range(0, whole, _PARTS):
        block = row[start : start + _PARTS]
        for n in range(_PARTS):
            difference = block[n] - center
            parts[n] += difference * difference
    total = 0.0
    for n in range(_PARTS):
        total += parts[n]
    for n in range(whole, row.size):
        total += (row[n] - center) * (row[n] - center)
    return total


@instruction(
    "LAYER_NORM_GRAD",
    "x dy variance mean gamma dx dgamma dbeta epsilon parts rows columns parameters",
    error_model="numpy",
)
def layer_norm_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """The gradients of x, gamma and beta."""
    x, dy, variance, mean, gamma, dx = i[1], i[2], i[3], i[4], i[5], i[6]
    epsilon, parts, rows, columns, parameters = arena[i[9]], i[10], i[11], i[12], i[13]
    dgamma, dbeta = arena[i[7] : i[7] + parameters], arena[i[8] : i[8] + parameters]
    sums, products = arena[parts : parts + _PARTS], arena[parts + _PARTS : parts + 2 * _PARTS]
    of_gamma = arena[parts + 2 * _PARTS :][:parameters]
    of_beta = arena[parts + 2 * _PARTS + parameters :][:parameters]
    inner = min(columns, parameters)
    dgamma[:], dbeta[:] = _ZERO, _ZERO
    for first in range(0, rows, _ROWS):
        of_gamma[:], of_beta[:] = _ZERO, _ZERO
        for r in range(first, min(first + _ROWS, rows)):
            center = arena[mean + r]
            scale = np.float32(1.0 / math.sqrt(arena[variance + r] + epsilon))
            total, product = 0.0, 0.0
            for start in range(0, columns, inner):
                at, own = r * columns + start, (r * columns + start) % parameters
                row, gradient = arena[x + at :][:inner], arena[dy + at :][:inner]
                factor = arena[gamma + own :][:inner]
                part, other = _slopes(row, gradient, factor, center, sums, products)
                total, product = total + part, product + other
                slopes, shifts = of_gamma[own : own + inner], of_beta[own : own + inner]
                for n in range(inner):
                    slopes[n] += gradient[n] * (row[n] - center) * scale
                    shifts[n] += gradient[n]
            share, slope = np.float32(total / columns), np.float32(product / columns * scale * scale)
            for start in range(0, columns, inner):
                at, own = r * columns + start, (r * columns + start) % parameters
                row, gradient, target = arena[x + at :][:inner], arena[dy + at :][:inner], arena[dx + at :][:inner]
                factor = arena[gamma + own :][:inner]
                for n in range(inner):
                    target[n] = (gradient[n] * factor[n] - share - (row[n] - center) * slope) * scale
        for n in range(parameters):
            dgamma[n] += of_gamma[n]
            dbeta[n] += of_beta[n]


@helper
def _slopes(row: Any, gradient: Any, factor: Any, center: Any, sums: Any, products: Any) -> Any:
    """Return the sums of dy * gamma and of dy * gamma * (x - mean)."""
    sums[:], products[:] = _ZERO, _ZERO
    whole = row.size // _PARTS * _PARTS
    for start in range(0, whole, _PARTS):
        values, slopes, factors = row[start:][:_PARTS], gradient[start:][:_PARTS], factor[start:][:_PARTS]
        for n in range(_PARTS):
            slope = slopes[n] * factors[n]
            sums[n] += slope
            products[n] += slope * (values[n] - center)
    total, product = 0.0, 0.0
    for n in range(_PARTS):
        total += sums[n]
        product += products[n]
    for n in range(whole, row.size):
        total += gradient[n] * factor[n]
        product += gradient[n] * factor[n] * (row[n] - center)
    return total, product
