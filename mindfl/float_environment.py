"""The floating-point environment of a thread: rounding, and whether the processor takes subnormal numbers for zero.

Any library can change it for the thread that calls it, and threads that are started later inherit it. MindSpore 2.10
lets the processor take subnormal numbers for zero (seen after it had run a graph twice), which changes the last bits of
what the same thread computes afterwards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_mathematics = ctypes.CDLL("libm.so.6")
#: C's FE_DFL_ENV, and the size of its fenv_t, both of x86-64
_DEFAULT, _SIZE = ctypes.c_void_p(-1), 32


@contextmanager
def default_float_environment() -> Iterator[None]:
    """Let this thread, and threads that it starts in the block, compute as a new program does.

    At the end the thread has the environment that it had before, whatever was called in the block. Also a decorator.

    Example:
        >>> with default_float_environment():
        ...     1e-320 * 0.5 > 0
        True
    """
    before = ctypes.create_string_buffer(_SIZE)
    _mathematics.fegetenv(before)
    _mathematics.fesetenv(_DEFAULT)
    try:
        yield
    finally:
        _mathematics.fesetenv(before)
