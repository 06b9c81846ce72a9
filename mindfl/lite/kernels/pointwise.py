"""Everything that is no multiply-add of a layer: activations, pooling, loss, moves, optimizers.

Same conventions as :mod:`mindfl.lite.kernels.products`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from mindfl.lite.kernels.pooling import window_gradient, window_maximum

_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)


@njit(nogil=True)
def bias(arena: Any, table: Any, i: Any) -> None:
    """y = x + bias, one bias for each of the last ``channels`` rows in turn."""
    x, bias, y, rows, channels, lanes = i[1], i[2], i[3], i[4], i[5], i[6]
    for row in range(rows):
        addend = arena[bias + row % channels]
        for lane in range(lanes):
            arena[y + row * lanes + lane] = arena[x + row * lanes + lane] + addend


@njit(nogil=True)
def bias_grad(arena: Any, table: Any, i: Any) -> None:
    """y[channel] = sum of dy over positions and the true samples of the batch."""
    dy, y, rows, channels, lanes, batch = i[1], i[2], i[3], i[4], i[5], i[6]
    for channel in range(channels):
        total = _ZERO
        for row in range(channel, rows, channels):
            for lane in range(batch):
                total += arena[dy + row * lanes + lane]
        arena[y + channel] = total


@njit(nogil=True)
def relu(arena: Any, table: Any, i: Any) -> None:
    """y = max(x, 0), NaN kept."""
    source, target = arena[i[1] : i[1] + i[3]], arena[i[2] : i[2] + i[3]]
    for n in range(source.size):
        value = source[n]
        target[n] = _ZERO if value < _ZERO else value


@njit(nogil=True)
def relu_grad(arena: Any, table: Any, i: Any) -> None:
    """dx = dy where the forward output is positive, else 0."""
    size = i[4]
    gradient, output, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    for n in range(size):
        target[n] = gradient[n] if output[n] > _ZERO else _ZERO


@njit(nogil=True)
def pool(arena: Any, table: Any, i: Any) -> None:
    """y = maximum over each window; positions outside the image do not count.

    ``index`` receives the number of the window position that the gradient goes to, the first one that holds the
    maximum; none where ``masked`` and the maximum is not positive (a ReLU before the pooling passes no gradient there).
    """
    x, y, index, masked, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    kernel_height, kernel_width, row_stride, column_stride = i[9], i[10], i[11], i[12]
    top, left, run = i[13], i[14], i[15]
    for row in range(out_height):
        first_row, rows = _inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = _inside(column * column_stride - left, kernel_width, width)
            corner = x + (first_row * width + first_column) * run
            window = (row * out_width + column) * run
            window_maximum(arena, corner, width * run, run, rows, columns, y + window, index, window, masked, run)


@njit(nogil=True)
def pool_grad(arena: Any, table: Any, i: Any) -> None:
    """dx = dy at the position that ``index`` names in each window, else 0.

    ``tiled`` says that the windows cover every position exactly once.
    """
    dy, index, dx, tiled, height, width, out_height, out_width = i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8]
    kernel_height, kernel_width, row_stride, column_stride = i[9], i[10], i[11], i[12]
    top, left, run = i[13], i[14], i[15]
    if not tiled:
        arena[dx : dx + height * width * run] = _ZERO
    added = 1 - tiled
    for row in range(out_height):
        first_row, rows = _inside(row * row_stride - top, kernel_height, height)
        for column in range(out_width):
            first_column, columns = _inside(column * column_stride - left, kernel_width, width)
            corner = dx + (first_row * width + first_column) * run
            window = (row * out_width + column) * run
            window_gradient(arena, dy + window, index, window, corner, width * run, run, rows, columns, added, run)


@njit(nogil=True)
def _inside(start: int, length: int, size: int) -> Any:
    """Return where the part of a window that lies on an image of ``size`` begins, and how long that part is."""
    first = max(start, 0)
    return first, min(start + length, size) - first


@njit(nogil=True)
def gather(arena: Any, table: Any, i: Any) -> None:
    """y[row] = x[table[row]], or zeros where the table holds -1: transposes, and padding on and off."""
    x, y, rows, rows_table, lanes = i[1], i[2], i[3], i[4], i[5]
    for row in range(rows):
        source = table[rows_table + row]
        target = arena[y + row * lanes :][:lanes]
        if source < 0:
            target[:] = _ZERO
        else:
            found = arena[x + source * lanes :][:lanes]
            for lane in range(lanes):
                target[lane] = found[lane]


@njit(nogil=True)
def loss(arena: Any, table: Any, i: Any) -> None:
    """Mean over the batch of -log softmax(logits)[label]; labels stand at the head of the table."""
    logits, out, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5]
    total = 0.0
    for n in range(batch):
        highest = _highest(arena, logits + n, classes, lanes)
        exponentials = _ZERO
        for c in range(classes):
            exponentials += math.exp(arena[logits + c * lanes + n] - highest)
        total += math.log(exponentials) - (arena[logits + table[n] * lanes + n] - highest)
    arena[out] = total / batch


@njit(nogil=True)
def loss_grad(arena: Any, table: Any, i: Any) -> None:
    """dx = (softmax(logits) - onehot(label)) / batch; the lanes behind the batch get 0."""
    logits, dx, classes, batch, lanes = i[1], i[2], i[3], i[4], i[5]
    arena[dx : dx + classes * lanes] = _ZERO
    share = _ONE / np.float32(batch)
    for n in range(batch):
        highest = _highest(arena, logits + n, classes, lanes)
        exponentials = _ZERO
        for c in range(classes):
            value = math.exp(arena[logits + c * lanes + n] - highest)
            arena[dx + c * lanes + n] = value
            exponentials += value
        scale = share / exponentials
        for c in range(classes):
            arena[dx + c * lanes + n] *= scale
        arena[dx + table[n] * lanes + n] -= share


@njit(nogil=True)
def _highest(arena: Any, start: int, count: int, step: int) -> Any:
    highest = arena[start]
    for c in range(1, count):
        value = arena[start + c * step]
        if value > highest:
            highest = value
    return highest


@njit(nogil=True)
def multiply(arena: Any, table: Any, i: Any) -> None:
    """y = a * b; a step of 0 repeats one value."""
    a, b, y, size, a_step, b_step = i[1], i[2], i[3], i[4], i[5], i[6]
    for n in range(size):
        arena[y + n] = arena[a + n * a_step] * arena[b + n * b_step]


@njit(nogil=True)
def add(arena: Any, table: Any, i: Any) -> None:
    """y = a + b."""
    a, b, y, size = i[1], i[2], i[3], i[4]
    for n in range(size):
        arena[y + n] = arena[a + n] + arena[b + n]


@njit(nogil=True)
def copy(arena: Any, table: Any, i: Any) -> None:
    """y = x."""
    x, y, size = i[1], i[2], i[3]
    for n in range(size):
        arena[y + n] = arena[x + n]


@njit(nogil=True)
def correct(arena: Any, table: Any, i: Any) -> None:
    """y = scale * gradient + shift + pull * (weight - towards), without the terms whose array is nowhere."""
    pull, shift, towards, size = arena[i[6]], i[5], i[7], i[8]
    gradient, weight, target = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    scale = arena[i[4]]
    for n in range(size):
        target[n] = scale * gradient[n]
    if shift >= 0:
        for n in range(size):
            target[n] += arena[shift + n]
    if towards >= 0:
        for n in range(size):
            target[n] += pull * (weight[n] - arena[towards + n])


@njit(nogil=True)
def momentum(arena: Any, table: Any, i: Any) -> None:
    """state = momentum * state + scale * gradient; weight -= rate * state (MindSpore Lite ApplyMomentum)."""
    size, nesterov = i[7], i[8]
    weight, state, gradient = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[4] : i[4] + size]
    rate, factor, scale = arena[i[3]], arena[i[5]], arena[i[6]]
    for n in range(size):
        slope = gradient[n] * scale
        speed = state[n] * factor + slope
        state[n] = speed
        weight[n] -= (slope + speed * factor) * rate if nesterov else speed * rate


@njit(nogil=True)
def sgd(arena: Any, table: Any, i: Any) -> None:
    """MindSpore Lite SGD: with momentum the first step copies the gradient, as ``first`` (stat) says until it is 0."""
    size, nesterov = i[9], i[10]
    weight, gradient, state = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[4] : i[4] + size]
    first = arena[i[6] : i[6] + size]
    rate, factor, dampening, decay = arena[i[3]], arena[i[5]], arena[i[7]], arena[i[8]]
    for n in range(size):
        slope = gradient[n] + weight[n] * decay
        if factor > _ZERO:
            speed = slope if first[n] > _ZERO else state[n] * factor + slope * (_ONE - dampening)
            state[n] = speed
            first[n] = _ZERO
            slope = slope + speed * factor if nesterov else speed
        weight[n] -= slope * rate


@njit(nogil=True)
def adam(arena: Any, table: Any, i: Any) -> None:
    """Adam (Kingma and Ba 2015, the form of section 2's last paragraph) as MindSpore computes it."""
    size, nesterov = i[11], i[12]
    weight, mean, variance = arena[i[1] : i[1] + size], arena[i[2] : i[2] + size], arena[i[3] : i[3] + size]
    beta1, beta2, epsilon, gradient = arena[i[7]], arena[i[8]], arena[i[9]], arena[i[10] : i[10] + size]
    rate = arena[i[6]] * math.sqrt(_ONE - arena[i[5]]) / (_ONE - arena[i[4]])
    for n in range(size):
        slope = gradient[n]
        mean[n] += (slope - mean[n]) * (_ONE - beta1)
        variance[n] += (slope * slope - variance[n]) * (_ONE - beta2)
        direction = mean[n] * beta1 + (_ONE - beta1) * slope if nesterov else mean[n]
        weight[n] -= rate * direction / (math.sqrt(variance[n]) + epsilon)
