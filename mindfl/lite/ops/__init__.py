"""The operators that the runtime executes: one module per family, with schema rows, lowerings and kernels."""

from mindfl.lite.ops import (
    activations,
    arithmetic,
    average_pool,
    borders,
    conv,
    dense,
    depthwise,
    elements,
    functions,
    fused,
    inputs,
    loss,
    optimizer,
    pool,
    reductions,
    shape,
)
from mindfl.lite.ops.registry import EXECUTED, INSTRUCTIONS, NOWHERE, learning_rate_input

__all__ = [
    "EXECUTED",
    "INSTRUCTIONS",
    "NOWHERE",
    "activations",
    "arithmetic",
    "average_pool",
    "borders",
    "conv",
    "dense",
    "depthwise",
    "elements",
    "functions",
    "fused",
    "inputs",
    "learning_rate_input",
    "loss",
    "optimizer",
    "pool",
    "reductions",
    "shape",
]
