"""Activations that a layer applies to its own output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.lite.ops.registry import instruction

if TYPE_CHECKING:
    from mindfl.lite.model_graph import Fusion
    from mindfl.lite.plan import Plan

_CEILING = np.float32(6.0)


def cut_off(plan: Plan, fusion: Fusion, y: int, size: int) -> None:
    """Emit the upper bound of a fused ReLU6 on ``size`` floats at ``y``; its lower bound is that of the product."""
    if fusion.ceiling:
        plan.builder.emit("CUT_OFF", y=y, size=size)


@instruction("CUT_OFF", "y size")
def cut_off_kernel(arena: Any, table: Any, i: Any) -> None:
    """y = min(y, 6), NaN kept."""
    values = arena[i[1] : i[1] + i[2]]
    for n in range(values.size):
        value = values[n]
        values[n] = _CEILING if value > _CEILING else value
