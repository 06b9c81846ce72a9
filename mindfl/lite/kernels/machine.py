"""The machine that runs instructions: one compiled loop, entered once per epoch and without the interpreter lock.

Beside it stands what brings samples into the form it takes."""

from __future__ import annotations

from typing import Any

from numba import njit

from mindfl.lite.kernels import elements, pointwise, products
from mindfl.lite.ops.registry import NUMBERS

_CONV, _CONV_INPUT_GRAD, _CONV_FILTER_GRAD = (NUMBERS[n] for n in ("CONV", "CONV_INPUT_GRAD", "CONV_FILTER_GRAD"))
_FOLD, _UNFOLD, _DENSE, _TRANSPOSE, _OUTER = (NUMBERS[n] for n in ("FOLD", "UNFOLD", "DENSE", "TRANSPOSE", "OUTER"))
_BIAS, _BIAS_GRAD, _RELU, _RELU_GRAD = (NUMBERS[n] for n in ("BIAS", "BIAS_GRAD", "RELU", "RELU_GRAD"))
_POOL, _POOL_GRAD = NUMBERS["POOL"], NUMBERS["POOL_GRAD"]
_LOSS, _LOSS_GRAD, _GATHER = (NUMBERS[n] for n in ("LOSS", "LOSS_GRAD", "GATHER"))
_MULTIPLY, _ADD, _COPY = (NUMBERS[n] for n in ("MULTIPLY", "ADD", "COPY"))
_BINARY, _REDUCE, _ONE_HOT, _CROSS_ENTROPY = (NUMBERS[n] for n in ("BINARY", "REDUCE", "ONE_HOT", "CROSS_ENTROPY"))
_CORRECT, _MOMENTUM, _SGD, _ADAM = (NUMBERS[n] for n in ("CORRECT", "MOMENTUM", "SGD", "ADAM"))
#: features moved together per sample: one cache line
_BLOCK = 16


@njit(nogil=True, inline="always")  # as a function of its own it would be optimised twice, 4 s each
def _run(arena: Any, table: Any, code: Any) -> None:
    for row in range(code.shape[0]):
        i = code[row]
        number = i[0]
        if number == _CONV:
            products.conv(arena, table, i)
        elif number == _CONV_INPUT_GRAD:
            products.conv_input_grad(arena, table, i)
        elif number == _CONV_FILTER_GRAD:
            products.conv_filter_grad(arena, table, i)
        elif number == _FOLD:
            products.fold(arena, table, i)
        elif number == _UNFOLD:
            products.unfold(arena, table, i)
        elif number == _DENSE:
            products.dense(arena, table, i)
        elif number == _TRANSPOSE:
            products.transpose(arena, table, i)
        elif number == _OUTER:
            products.outer(arena, table, i)
        elif number == _BIAS:
            pointwise.bias(arena, table, i)
        elif number == _BIAS_GRAD:
            pointwise.bias_grad(arena, table, i)
        elif number == _RELU:
            pointwise.relu(arena, table, i)
        elif number == _RELU_GRAD:
            pointwise.relu_grad(arena, table, i)
        elif number == _POOL:
            pointwise.pool(arena, table, i)
        elif number == _POOL_GRAD:
            pointwise.pool_grad(arena, table, i)
        elif number == _GATHER:
            pointwise.gather(arena, table, i)
        elif number == _LOSS:
            pointwise.loss(arena, table, i)
        elif number == _LOSS_GRAD:
            pointwise.loss_grad(arena, table, i)
        elif number == _MULTIPLY:
            pointwise.multiply(arena, table, i)
        elif number == _ADD:
            pointwise.add(arena, table, i)
        elif number == _MOMENTUM:
            pointwise.momentum(arena, table, i)
        elif number == _SGD:
            pointwise.sgd(arena, table, i)
        elif number == _ADAM:
            pointwise.adam(arena, table, i)
        elif number == _COPY:
            pointwise.copy(arena, table, i)
        elif number == _BINARY:
            elements.binary(arena, table, i)
        elif number == _REDUCE:
            elements.reduce(arena, table, i)
        elif number == _ONE_HOT:
            elements.one_hot(arena, table, i)
        elif number == _CROSS_ENTROPY:
            elements.cross_entropy(arena, table, i)
        elif number == _CORRECT:
            pointwise.correct(arena, table, i)


@njit(nogil=True, cache=True)
def pack(images: Any, batches: Any, batch: int) -> None:
    """Fill ``batches`` (count, features, lanes), zeros before, with ``batch`` samples each of ``images`` (n, features).

    Samples are taken in order and cyclically; the lanes behind the batch are left alone. All float32.
    """
    features = images.shape[1]
    for number in range(batches.shape[0]):
        for start in range(0, features, _BLOCK):
            stop = min(start + _BLOCK, features)
            for n in range(batch):
                sample = images[(number * batch + n) % images.shape[0]]
                for f in range(start, stop):
                    batches[number, f, n] = sample[f]


@njit(nogil=True, cache=True)
def execute(arena: Any, table: Any, code: Any, batches: Any, labels: Any, place: Any, steps: int, results: Any) -> None:
    """Run ``code`` on ``steps`` batches, taken in order and cyclically; ``batches`` as :func:`pack` fills them.

    ``place`` is (input offset, features, batch, lanes, offset of the result, classes). Where classes is 0 the result is
    one number per step, for ``results`` (steps, 1); else it is that many scores per image, for ``results``
    (count, classes). ``labels`` are int32 (count,), or at least one for code that reads none.
    """
    x, size, batch, lanes, out, classes = place[0], place[1] * place[3], place[2], place[3], place[4], place[5]
    for step in range(steps):
        start = step * batch
        arena[x : x + size] = batches[step % batches.shape[0]].ravel()
        for n in range(batch):
            table[n] = labels[(start + n) % labels.size]
        _run(arena, table, code)
        if classes == 0:
            results[step, 0] = arena[out]
        else:
            for n in range(min(batch, results.shape[0] - start)):
                for c in range(classes):
                    results[start + n, c] = arena[out + c * lanes + n]
