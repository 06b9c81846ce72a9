"""Adam whose weight decay does not go through the gradient (Loshchilov and Hutter 2019), without bias correction."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.lite.ops.registry import instruction

_ONE = np.float32(1.0)


@instruction(
    "ADAM_WEIGHT_DECAY", "weight mean variance rate beta1 beta2 epsilon decay gradient size", error_model="numpy"
)
def adam_weight_decay_kernel(arena: Any, table: Any, i: Any) -> None:
    """weight -= rate * (mean/(sqrt(variance) + epsilon) + decay * weight), as MindSpore computes it."""
    size = i[10]
    weight, gradient = arena[i[1] : i[1] + size], arena[i[9] : i[9] + size]
    mean, variance = arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    rate, beta1, beta2, epsilon, decay = arena[i[4]], arena[i[5]], arena[i[6]], arena[i[7]], arena[i[8]]
    rest1, rest2 = _ONE - beta1, _ONE - beta2
    for n in range(size):
        slope = gradient[n]
        first, second = beta1 * mean[n] + rest1 * slope, beta2 * variance[n] + rest2 * slope * slope
        mean[n], variance[n] = first, second
        weight[n] -= rate * (first / (np.float32(np.sqrt(second)) + epsilon) + decay * weight[n])
