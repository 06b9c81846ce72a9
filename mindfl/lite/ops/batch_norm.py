"""Batch normalisation: with the statistics of the batch while training, with the running ones otherwise.

Values lie batch-last, so the values of one channel are rows of lanes. A block of channels is read three times while it
is in the cache: for its mean, its variance, and the result. Lanes behind the batch do not count, and are written as 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.kernels.primitives import VECTOR
from mindfl.lite.ops.registry import NO_ACTIVATION, NOWHERE, RELU, helper, instruction, need, operator
from mindfl.lite.program import Value, alike

if TYPE_CHECKING:
    from mindfl.lite.model import Node
    from mindfl.lite.plan import Plan

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
#: floats of a row of a block: several channels, where one has fewer lanes
_ROW = 256
#: rows that are added in float32 before their sum is added to that of all
_ROWS = 64


def moved(node: Node) -> tuple[int, ...]:
    """Return the inputs of a node that training moves: the running mean and variance of a BatchNorm."""
    return node.inputs[3:5] if node.op == "FusedBatchNorm" and node.integer("mode") else ()


@operator("68 FusedBatchNorm epsilon:f=0.0001 momentum:f=0.9 mode:q", inputs=5)
def _fused_batch_norm(plan: Plan, node: Node) -> None:
    """While training, a node of mode 1 uses the batch's statistics, and moves the running ones towards them."""
    if not (plan.training and node.integer("mode")):
        _normalise(plan, node, *(plan.fixed(node, place) for place in range(1, 5)))
        return
    x, channels = _input(plan, node, 0)
    gamma, beta, running_mean, running_variance = (_per_channel(plan, node, place, channels) for place in range(1, 5))
    need(all(node.inputs[place] in plan.graph.constants for place in (3, 4)), node, "computed running statistics")
    mean, variance = plan.new_parameter((channels,)), plan.new_parameter((channels,))
    for output, saved in zip(node.outputs[3:5], (mean, variance), strict=False):
        plan.keep(output, saved)
    plan.builder.emit(
        "BATCH_NORM",
        x=x.offset,
        gamma=gamma.offset,
        beta=beta.offset,
        mean=mean.offset,
        variance=variance.offset,
        running_mean=running_mean.offset,
        running_variance=running_variance.offset,
        momentum=plan.literal(node.real("momentum")),
        epsilon=plan.literal(node.real("epsilon")),
        **_result(plan, node, x),
    )


@operator("19 BatchNorm epsilon:f format:i is_training:?", inputs=3)
def _batch_norm(plan: Plan, node: Node) -> None:
    """(x - mean) / sqrt(variance + epsilon): a mean and a variance are its inputs, and no gamma and beta."""
    need(not node.flag("is_training") and len(node.inputs) == 3, node, "the statistics of the batch")
    _normalise(plan, node, None, None, plan.fixed(node, 1), plan.fixed(node, 2))


def _normalise(plan: Plan, node: Node, gamma: Value | None, beta: Value | None, mean: Value, variance: Value) -> None:
    x, channels = _input(plan, node, 0)
    for value in (gamma, beta, mean, variance):
        need(value is None or value.size == channels, node, f"a parameter of another size than the {channels} channels")
    plan.builder.emit(
        "NORMALISE",
        x=x.offset,
        gamma=NOWHERE if gamma is None else gamma.offset,
        beta=NOWHERE if beta is None else beta.offset,
        mean=mean.offset,
        variance=variance.offset,
        epsilon=plan.literal(node.real("epsilon")),
        **_result(plan, node, x),
    )


def _input(plan: Plan, node: Node, place: int) -> tuple[Value, int]:
    """Return an input with the batch, and the size of its last axis: the channels."""
    x = plan.batched(node, place)
    need(len(x.dims) > 1, node, f"an input of shape {x.dims}")
    return x, x.dims[-1]


def _per_channel(plan: Plan, node: Node, place: int, channels: int) -> Value:
    value = plan.fixed(node, place)
    need(value.size == channels, node, f"an input {place} of {value.size} elements for {channels} channels")
    return value


def _result(plan: Plan, node: Node, x: Value) -> dict[str, int]:
    """Store the place of the result, a ReLU that follows computed too; return operands."""
    output, activation = node.outputs[0], NO_ACTIVATION
    follower = plan.graph.sole_consumer(output)
    if follower is not None and follower.op == "Activation" and follower.integer("type") == RELU:
        output, activation = follower.outputs[0], RELU
    y = plan.keep(output, plan.new_batch(x.dims))
    plan.mark_fused(node, output)
    return {"y": y.offset, "activation": activation, **_sizes(plan, x)}


def _sizes(plan: Plan, x: Value) -> dict[str, int]:
    """Return operands: the sizes of a value with the batch, and the memory that each kernel needs."""
    room = 5 * max(_ROW, plan.lanes)
    return {
        "channels": x.dims[-1],
        "positions": math.prod(x.dims[1:-1]),
        "batch": plan.batch,
        "room": plan.once(("rows of a batch norm", room), lambda: plan.builder.allocate(room)),
    }


@operator("20 BatchNormGrad epsilon:f is_training:?", inputs=5, outputs=3)
def _batch_norm_grad(plan: Plan, node: Node) -> None:
    x, channels = _input(plan, node, 1)
    dy = plan.batched(node, 0)
    need(alike(dy.dims, x.dims), node, f"shapes {dy.dims} and {x.dims}")
    gamma, mean, variance = (_per_channel(plan, node, place, channels) for place in (2, 3, 4))
    dx = plan.keep(node.outputs[0], plan.new_batch(x.dims))
    dgamma, dbeta = (plan.keep(output, plan.new_parameter((channels,))) for output in node.outputs[1:3])
    plan.builder.emit(
        "BATCH_NORM_GRAD",
        dy=dy.offset,
        x=x.offset,
        dx=dx.offset,
        gamma=gamma.offset,
        mean=mean.offset,
        variance=variance.offset,
        dgamma=dgamma.offset,
        dbeta=dbeta.offset,
        epsilon=plan.literal(node.real("epsilon")),
        frozen=not node.flag("is_training"),
        **_sizes(plan, x),
    )


@instruction(
    "BATCH_NORM",
    "x y gamma beta mean variance running_mean running_variance momentum epsilon "
    "activation channels positions batch room",
    error_model="numpy",
)
def batch_norm_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, ``mean`` and ``variance`` those of the batch.

    The running ones become (1 - momentum) * running + momentum * batch, the variance being that without bias.
    """
    x, y, gamma, beta, mean, variance, running_mean, running_variance = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    momentum, epsilon, activation = arena[i[9]], arena[i[10]], i[11]
    channels, positions, batch, rows = i[12], i[13], i[14], i[15]
    lanes = -(-batch // VECTOR) * VECTOR
    apart, block, count = channels * lanes, max(_ROW // lanes, 1), positions * batch
    room = block * lanes
    means, sums, parts = rows, rows + room, rows + 2 * room
    for first in range(0, channels, block):
        width = min(block, channels - first)
        run, start = width * lanes, x + first * lanes
        arena[means : means + run] = _ZERO
        _add_rows(arena, start, apart, positions, run, means, sums, parts, False)
        for c in range(width):
            center = np.float32(_over_lanes(arena, sums + c * lanes, batch) / count)
            arena[means + c * lanes : means + (c + 1) * lanes] = center
            arena[mean + first + c] = center
            arena[running_mean + first + c] += momentum * (center - arena[running_mean + first + c])
        _add_rows(arena, start, apart, positions, run, means, sums, parts, True)
        for c in range(width):
            spread = _over_lanes(arena, sums + c * lanes, batch)
            arena[variance + first + c] = spread / count
            unbiased = np.float32(spread / max(count - 1, 1))
            arena[running_variance + first + c] += momentum * (unbiased - arena[running_variance + first + c])
        _scale_rows(
            arena, start, y + first * lanes, gamma, beta, mean, variance, first, width, epsilon, activation, positions,
            apart, batch, lanes, rows, room,
        )  # fmt: skip


@instruction(
    "NORMALISE",
    "x y gamma beta mean variance epsilon activation channels positions batch room",
    error_model="numpy",
)
def normalise_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = (x - mean) / sqrt(variance + epsilon) * gamma + beta; without the latter two where they are absent."""
    x, y, gamma, beta, mean, variance, epsilon, activation = i[1], i[2], i[3], i[4], i[5], i[6], arena[i[7]], i[8]
    channels, positions, batch, rows = i[9], i[10], i[11], i[12]
    lanes = -(-batch // VECTOR) * VECTOR
    block = max(_ROW // lanes, 1)
    for first in range(0, channels, block):
        _scale_rows(
            arena, x + first * lanes, y + first * lanes, gamma, beta, mean, variance, first,
            min(block, channels - first), epsilon, activation, positions, channels * lanes, batch, lanes, rows,
            block * lanes,
        )  # fmt: skip


@helper
def _add_rows(
    arena: Any, x: Any, apart: Any, count: Any, run: Any, means: Any, sums: Any, parts: Any, squared: Any
) -> None:
    """sums = sum of ``count`` rows of x less the means, or of their squares."""
    center, total, part = arena[means : means + run], arena[sums : sums + run], arena[parts : parts + run]
    total[:] = _ZERO
    for first in range(0, count, _ROWS):
        part[:] = _ZERO
        for p in range(first, min(first + _ROWS, count)):
            row = arena[x + p * apart : x + p * apart + run]
            if squared:
                for n in range(run):
                    difference = row[n] - center[n]
                    part[n] += difference * difference
            else:
                for n in range(run):
                    part[n] += row[n]
        for n in range(run):
            total[n] += part[n]


@helper
def _over_lanes(arena: Any, start: Any, batch: Any) -> Any:
    """Return the sum over the lanes of the batch, in float64."""
    total = 0.0
    for n in range(batch):
        total += arena[start + n]
    return total


@helper
def _scale_rows(
    arena: Any, x: Any, y: Any, gamma: Any, beta: Any, mean: Any, variance: Any, first: Any, width: Any, epsilon: Any,
    activation: Any, count: Any, apart: Any, batch: Any, lanes: Any, rows: Any, room: Any,
) -> None:  # fmt: skip
    """Normalise ``count`` rows of a block of channels; lanes behind the batch become 0.

    A negative variance, as noise of differential privacy can make a running one, counts as 0.
    """
    run = width * lanes
    center, factor = arena[rows : rows + run], arena[rows + room : rows + room + run]
    shift = arena[rows + 2 * room : rows + 2 * room + run]
    factor[:], shift[:] = _ZERO, _ZERO
    for c in range(width):
        scale = 1.0 / math.sqrt(max(arena[variance + first + c], _ZERO) + epsilon)
        start, stop = c * lanes, c * lanes + batch
        center[c * lanes : (c + 1) * lanes] = arena[mean + first + c]
        factor[start:stop] = scale * arena[gamma + first + c] if gamma >= 0 else scale
        shift[start:stop] = arena[beta + first + c] if beta >= 0 else 0.0
    low = _ZERO if activation == RELU else np.float32(-np.inf)
    for p in range(count):
        source, target = arena[x + p * apart : x + p * apart + run], arena[y + p * apart : y + p * apart + run]
        for n in range(run):
            value = (source[n] - center[n]) * factor[n] + shift[n]
            target[n] = low if value < low else value


@instruction(
    "BATCH_NORM_GRAD",
    "dy x dx gamma mean variance dgamma dbeta epsilon frozen channels positions batch room",
    error_model="numpy",
)
def batch_norm_grad_kernel(arena: Any, table: Any, i: Any) -> None:
    """The gradients of x, gamma and beta; with ``frozen`` statistics these do not depend on x."""
    dy, x, dx, gamma, mean, variance, dgamma, dbeta = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    epsilon, frozen, channels, positions, batch, rows = arena[i[9]], i[10], i[11], i[12], i[13], i[14]
    lanes = -(-batch // VECTOR) * VECTOR
    apart, block, count = channels * lanes, max(_ROW // lanes, 1), positions * batch
    room = block * lanes
    sums, products, means, parts, others = rows, rows + room, rows + 2 * room, rows + 3 * room, rows + 4 * room
    for first in range(0, channels, block):
        width = min(block, channels - first)
        run, shift = width * lanes, first * lanes
        for c in range(width):
            arena[means + c * lanes : means + (c + 1) * lanes] = arena[mean + first + c]
        _add_gradients(arena, dy + shift, x + shift, apart, positions, run, sums, products, means, parts, others)
        arena[parts : parts + run] = _ZERO
        for c in range(width):
            total, product = (
                _over_lanes(arena, sums + c * lanes, batch),
                _over_lanes(arena, products + c * lanes, batch),
            )
            scale = 1.0 / math.sqrt(arena[variance + first + c] + epsilon)
            arena[dbeta + first + c] = total
            arena[dgamma + first + c] = product * scale
            slope = arena[gamma + first + c] * scale
            share = 0.0 if frozen else slope / count
            start = c * lanes
            arena[parts + start : parts + start + batch] = slope
            arena[sums + start : sums + start + lanes] = share * total
            arena[products + start : products + start + lanes] = share * scale * scale * product
        _spread_gradients(
            arena, dy + shift, x + shift, dx + shift, apart, positions, run, sums, products, means, parts
        )  # fmt: skip


@helper
def _add_gradients(
    arena: Any, dy: Any, x: Any, apart: Any, count: Any, run: Any, sums: Any, products: Any, means: Any, parts: Any,
    others: Any,
) -> None:  # fmt: skip
    """sums = sum of ``count`` rows of dy; products = sum of dy * (x - mean)."""
    total, product, center = arena[sums : sums + run], arena[products : products + run], arena[means : means + run]
    part, other = arena[parts : parts + run], arena[others : others + run]
    total[:], product[:] = _ZERO, _ZERO
    for first in range(0, count, _ROWS):
        part[:], other[:] = _ZERO, _ZERO
        for p in range(first, min(first + _ROWS, count)):
            gradient, row = arena[dy + p * apart : dy + p * apart + run], arena[x + p * apart : x + p * apart + run]
            for n in range(run):
                part[n] += gradient[n]
                other[n] += gradient[n] * (row[n] - center[n])
        for n in range(run):
            total[n] += part[n]
            product[n] += other[n]


@helper
def _spread_gradients(
    arena: Any, dy: Any, x: Any, dx: Any, apart: Any, count: Any, run: Any, sums: Any, products: Any, means: Any,
    slopes: Any,
) -> None:  # fmt: skip
    """dx = slope * dy - sum - product * (x - mean); 0 where the slope is 0: behind the batch."""
    total, product, center = arena[sums : sums + run], arena[products : products + run], arena[means : means + run]
    slope = arena[slopes : slopes + run]
    for p in range(count):
        gradient, row = arena[dy + p * apart : dy + p * apart + run], arena[x + p * apart : x + p * apart + run]
        target = arena[dx + p * apart : dx + p * apart + run]
        for n in range(run):
            value = slope[n] * gradient[n] - total[n] - product[n] * (row[n] - center[n])
            target[n] = value if slope[n] != _ZERO else _ZERO
