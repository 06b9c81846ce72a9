"""The instruction at which threads that share a step wait for each other."""

from __future__ import annotations

from typing import Any

from mindfl.lite.kernels.primitives import meet
from mindfl.lite.ops.registry import instruction


@instruction("MEET", "counter threads")
def meet_kernel(arena: Any, table: Any, i: Any) -> None:
    """Wait for all threads; ``counter`` is an address of the process, the number that :func:`meet` counts with."""
    meet(i[1], i[2])
