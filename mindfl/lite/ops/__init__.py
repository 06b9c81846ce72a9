"""The operators that the runtime executes: one module per family, with schema rows, lowerings and kernels."""

from mindfl.lite.ops import conv, dense, elements, inputs, loss, optimizer, pool, shape
from mindfl.lite.ops.registry import EXECUTED, INSTRUCTIONS, NOWHERE, learning_rate_input

__all__ = [
    "EXECUTED",
    "INSTRUCTIONS",
    "NOWHERE",
    "conv",
    "dense",
    "elements",
    "inputs",
    "learning_rate_input",
    "loss",
    "optimizer",
    "pool",
    "shape",
]
