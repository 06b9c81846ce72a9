"""The machine that runs instructions: one compiled loop, entered once per epoch and without the interpreter lock.

The module also packs samples for the machine."""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.extending import register_jitable

from mindfl.lite.kernels import pooling, products
from mindfl.lite.ops import INSTRUCTIONS
from mindfl.lite.ops.registry import HELPERS

#: features moved together per sample: one cache line
_BLOCK = 16
#: importing these registers the code of the primitives
_CODE = (pooling, products)


def _runner() -> Any:
    """Return the function that runs code: a chain of comparisons of the instruction's number, one per kernel.

    It is written as text because the compiler takes no table of functions.
    """
    for function in HELPERS:
        register_jitable(function)
    kernels = {name: njit(nogil=True, **known.options)(known.kernel) for name, known in INSTRUCTIONS.items()}
    lines = ["def run(arena, table, code):", " for row in range(code.shape[0]):", "  i = code[row]", "  number = i[0]"]
    for name, known in INSTRUCTIONS.items():
        lines += [f"  {'elif' if known.number else 'if'} number == {known.number}:", f"   {name}(arena, table, i)"]
    exec("\n".join(lines), kernels)
    # Inlined: a separate function would be optimised twice, 4 s each.
    return njit(nogil=True, inline="always")(kernels["run"])


_run = _runner()


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
