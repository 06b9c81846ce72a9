"""The instructions of the runtime: name, number and operands in one table.

An instruction is one row of int64: the number, then the operands in the order given here. Operands that name a place
are element offsets into the session's float arena; those called ``*_table`` are offsets into its int32 table. An
``index`` place holds one byte per element, or is :data:`NOWHERE`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: instruction -> operands, in the order in which the kernels unpack them
OPERANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CONV": (
            *("x", "weight", "y", "start", "relu", "taps_table", "taps", "channels"),
            *("height", "width", "row_step", "column_step", "lanes"),
        ),
        "CONV_INPUT_GRAD": (
            *("dy", "weight", "dx", "cleared", "rows_table", "channels_table", "runs", "run", "channels"),
            *("height", "width", "row_step", "column_step", "lanes"),
        ),
        "CONV_FILTER_GRAD": (
            *("dy", "x", "dw", "sums", "first", "last", "dy_table", "x_table", "taps_table"),
            *("positions", "channels", "taps", "lanes"),
        ),
        "FOLD": ("weight", "folded", "rows", "channels"),
        "UNFOLD": ("folded", "weight", "rows", "channels"),
        "DENSE": (
            *("x", "weight", "y", "start", "relu", "row_step", "column_step"),
            *("x_table", "rows", "columns", "lanes"),
        ),
        "TRANSPOSE": ("x", "y", "rows", "columns", "x_lanes", "y_lanes"),
        "OUTER": ("a", "b", "y", "tail", "b_table", "rows", "columns", "batch", "a_lanes"),
        "BIAS": ("x", "bias", "y", "rows", "channels", "lanes"),
        "BIAS_GRAD": ("dy", "y", "rows", "channels", "lanes", "batch"),
        "RELU": ("x", "y", "size"),
        "RELU_GRAD": ("dy", "y", "dx", "size"),
        "POOL": (
            *("x", "y", "index", "masked", "height", "width", "out_height", "out_width", "kernel_height"),
            *("kernel_width", "row_stride", "column_stride", "top", "left", "run"),
        ),
        "POOL_GRAD": (
            *("dy", "index", "dx", "tiled", "height", "width", "out_height", "out_width", "kernel_height"),
            *("kernel_width", "row_stride", "column_stride", "top", "left", "run"),
        ),
        "GATHER": ("x", "y", "rows", "rows_table", "lanes"),
        "LOSS": ("logits", "loss", "classes", "batch", "lanes"),
        "LOSS_GRAD": ("logits", "dx", "classes", "batch", "lanes"),
        "MULTIPLY": ("a", "b", "y", "size", "a_step", "b_step"),
        "ADD": ("a", "b", "y", "size"),
        "MOMENTUM": ("weight", "state", "rate", "gradient", "momentum", "scale", "size", "nesterov"),
        "SGD": (
            *("weight", "gradient", "rate", "state", "momentum", "first", "dampening", "decay", "size", "nesterov"),
        ),
        "ADAM": (
            *("weight", "mean", "variance", "beta1_power", "beta2_power", "rate", "beta1", "beta2", "epsilon"),
            *("gradient", "size", "nesterov"),
        ),
        "COPY": ("x", "y", "size"),
        "BINARY": ("kind", "a", "b", "y", "a_table", "b_table", "rows", "a_lane", "b_lane", "lanes", "count"),
        "REDUCE": ("x", "y", "outs_table", "outs", "terms_table", "terms", "lanes", "count", "mean"),
        "ONE_HOT": ("y", "classes", "batch", "lanes"),
        "CORRECT": ("gradient", "weight", "y", "scale", "shift", "pull", "towards", "size"),
        "CROSS_ENTROPY": ("logits", "labels", "loss", "dx", "classes", "batch", "lanes"),
    }
)

#: an operand that names no place
NOWHERE = -1

#: instruction -> number
NUMBERS: Mapping[str, int] = MappingProxyType({name: number for number, name in enumerate(OPERANDS)})

#: int64 values per instruction row
ROW = 1 + max(map(len, OPERANDS.values()))
