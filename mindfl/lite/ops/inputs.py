"""Inputs of whole numbers, and labels, as values that operators compute with."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.lite.ops.registry import instruction


@instruction("NUMBERS", "y start_table apart count batch real")
def numbers_kernel(arena: Any, table: Any, i: Any) -> None:
    """y[n, k] = table[start + n * apart + k], whose 32 bits are a float32 where they are ``real``."""
    y, start, apart, count, batch, real = i[1], i[2], i[3], i[4], i[5], i[6]
    bits = table.view(np.float32)
    for n in range(batch):
        for k in range(count):
            at = start + n * apart + k
            arena[y + n * count + k] = bits[at] if real else np.float32(table[at])
