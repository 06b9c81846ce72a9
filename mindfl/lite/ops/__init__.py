"""The operators that the runtime executes: one module per family, with schema rows, lowerings and kernels."""

from mindfl.lite.ops import conv, dense, elements, loss, optimizer, pool, shape
from mindfl.lite.ops.registry import EXECUTED, INSTRUCTIONS, NOWHERE, learning_rate_input

__all__ = [
    "EXECUTED",
    "INSTRUCTIONS",
    "NOWHERE",
    "conv",
    "dense",
    "elements",
    "learning_rate_input",
    "loss",
    "optimizer",
    "pool",
    "shape",
]
