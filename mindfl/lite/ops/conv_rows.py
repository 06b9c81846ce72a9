"""Gradients of convolutions of many channels as products of row-major matrices, where the channels fill the vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mindfl.lite.kernels.primitives import VECTOR
from mindfl.lite.ops.row_major import row_product, turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mindfl.lite.ops.borders import Block
    from mindfl.lite.ops.windows import Geometry
    from mindfl.lite.plan import Plan

#: terms of a sum that are added at once: so many rows of the input stay in the first cache
_TERMS = 128
#: most lines of a product's table
_MOST_LINES = 2**18


def fills_vectors(geometry: Geometry, batch: int) -> bool:
    """Return whether the channels of the input fill a vector, and a table can list the positions of all samples."""
    listed = batch * geometry.out[0] * geometry.out[1]
    return geometry.groups == 1 and geometry.channels >= VECTOR and listed <= _MOST_LINES


def emit_filter_grad_rows(plan: Plan, geometry: Geometry, blocks: Iterable[Block], *, x: int, dw: int) -> None:
    """Emit ``dw[k, tap] = sum over samples and positions of dy[k] * x[tap]``, the sum being the inner one of a product.

    ``x`` is the place of the bordered input.
    """
    (height, width, filters), lanes = geometry.out, plan.lanes
    features, outputs = geometry.height * geometry.width * geometry.channels, height * width * filters

    images = plan.builder.allocate(plan.batch * features + VECTOR)
    turn(plan, x, images, (features, plan.batch), lanes, features, whole=True)
    gradients = plan.builder.allocate(plan.batch * outputs)
    for place, row, rows in blocks:
        y = gradients + row * width * filters
        turn(plan, place, y, (rows * width * filters, plan.batch), lanes, outputs, whole=True)
    starts, length = geometry.runs()
    lines = [n * features + window for n in range(plan.batch) for window in geometry.windows(height)]
    for index, start in enumerate(starts):
        row_product(
            plan,
            (gradients, 1, filters),
            images + start,
            lines,
            (dw + index * length, len(starts) * length),
            (filters, length),
            block=_TERMS,
            row_block=filters,
        )


def turned_weight(plan: Plan, geometry: Geometry, weight: int) -> int:
    """Return the place of a copy of the weight for the convolution of dy that gives dx: [in, turned window, out]."""
    window, (filters, channels) = geometry.kernel[0] * geometry.kernel[1], (geometry.out[2], geometry.channels)
    place = plan.builder.allocate(channels * window * filters)
    for tap in range(window):
        source, target = weight + (window - 1 - tap) * channels, place + tap * filters
        turn(plan, source, target, (filters, channels), window * channels, window * filters)
    return place
