"""Element by element: arithmetic with broadcasting, reductions, and the loss of one-hot labels.

Same conventions as :mod:`mindfl.lite.kernels.products`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)


@njit(nogil=True, error_model="numpy")
def binary(arena: Any, table: Any, i: Any) -> None:
    """y = a + b, a - b, a * b or a / b (``kind`` 0 to 3), for each row and ``count`` samples.

    The tables say where the operands of a row begin, the lanes how far apart those of two samples are.
    """
    kind, a, b, y, a_table, b_table, rows = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    a_lane, b_lane, lanes, count = i[8], i[9], i[10], i[11]
    for row in range(rows):
        left, right = a + table[a_table + row], b + table[b_table + row]
        for n in range(count):
            first, second = arena[left + n * a_lane], arena[right + n * b_lane]
            if kind == 0:
                value = first + second
            elif kind == 1:
                value = first - second
            elif kind == 2:
                value = first * second
            else:
                value = first / second
            arena[y + row * lanes + n] = value


@njit(nogil=True)
def reduce(arena: Any, table: Any, i: Any) -> None:
    """y[out] = sum, or ``mean``, of the terms of each output, for ``count`` samples."""
    x, y, outs_table, outs, terms_table, terms = i[1], i[2], i[3], i[4], i[5], i[6]
    lanes, count, mean = i[7], i[8], i[9]
    for out in range(outs):
        start = x + table[outs_table + out]
        for n in range(count):
            total = 0.0
            for term in range(terms):
                total += arena[start + table[terms_table + term] + n]
            arena[y + out * lanes + n] = total / terms if mean else total


@njit(nogil=True)
def one_hot(arena: Any, table: Any, i: Any) -> None:
    """y = 1 at the label of each sample, else 0; labels stand at the head of the table."""
    y, classes, batch, lanes = i[1], i[2], i[3], i[4]
    arena[y : y + classes * lanes] = _ZERO
    for n in range(batch):
        arena[y + table[n] * lanes + n] = _ONE


@njit(nogil=True)
def cross_entropy(arena: Any, table: Any, i: Any) -> None:
    """loss = -sum(labels * log softmax(logits)) and dx = softmax(logits) - labels, for each sample."""
    logits, labels, loss, dx, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5], i[6], i[7]
    arena[dx : dx + classes * lanes] = _ZERO
    for n in range(batch):
        highest = arena[logits + n]
        for c in range(1, classes):
            highest = max(highest, arena[logits + c * lanes + n])
        exponentials = _ZERO
        for c in range(classes):
            value = math.exp(arena[logits + c * lanes + n] - highest)
            arena[dx + c * lanes + n] = value
            exponentials += value
        logarithm, total = math.log(exponentials), 0.0
        for c in range(classes):
            at = c * lanes + n
            total += arena[labels + at] * (logarithm - (arena[logits + at] - highest))
            arena[dx + at] = arena[dx + at] / exponentials - arena[labels + at]
        arena[loss + n] = total
