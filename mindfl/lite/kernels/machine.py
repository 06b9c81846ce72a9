"""The machine that runs instructions: one compiled loop, entered once per epoch and without the interpreter lock.

The module also packs samples for the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.core.ccallback import CFunc
from numba.extending import intrinsic, register_jitable

from mindfl.lite.kernels import matrices, moving, panels, pooling, products, taps, waiting
from mindfl.lite.kernels.kept import keep
from mindfl.lite.ops import INSTRUCTIONS
from mindfl.lite.ops.registry import HELPERS, KEY, family_of

#: features moved together per sample: one cache line
_BLOCK = 16
#: importing these registers the code of the primitives
_CODE = (matrices, moving, panels, pooling, products, taps, waiting)


for _function in HELPERS:
    # Inlined in families: a loop that calls a function does not become vectors. The machine's own loop stays as it is.
    register_jitable(forceinline=family_of(_function) is not None)(_function)


def _written(name: str, head: str, family: str | None, rest: list[str]) -> Any:
    """Return a function that chooses the kernel of instruction ``i`` by comparisons of its key.

    It is written as text because the compiler takes no table of functions.
    """
    names: dict[str, Any] = {"__name__": __name__, "call": _call, "carray": carray}
    lines, word = [head], "if"
    for kernel, known in INSTRUCTIONS.items():
        if known.family == family:
            names[kernel] = njit(nogil=True, **known.options)(known.kernel)
            lines += [f"  {word} i[{KEY}] == {known.key}:", f"   {kernel}(arena, table, i)"]
            word = "elif"
    exec(compile("\n".join(lines + rest), __file__, "exec"), names)
    return names[name]


@intrinsic
def _call(typing: Any, address: Any, arena: Any, table: Any, row: Any) -> Any:
    """Call the family of kernels at an address (see :func:`family_address`)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, long = arguments[0], ir.IntType(64)
        passed = []
        for kind, value in zip(signature.args[1:], arguments[1:], strict=True):
            array = cgutils.create_struct_proxy(kind)(context, builder, value)
            passed += [array.data, cgutils.unpack_tuple(builder, array.shape)[0]]
        kinds = [long if index % 2 else value.type for index, value in enumerate(passed)]
        kernel = builder.inttoptr(number, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        builder.call(kernel, passed)
        return context.get_dummy_value()

    return types.void(types.int64, arena, table, row), generate


# Inlined: a separate function would be optimised twice, 4 s each.
_run = njit(nogil=True, inline="always")(
    _written(
        "run",
        "def run(arena, table, code, addresses):\n for row in range(code.shape[0]):\n  i = code[row]",
        None,
        ["  else:", "   call(addresses[i[0]], arena, table, i)"],
    )
)


def family_address(family: str, folder: Path) -> int:
    """Return the address of a compiled function that executes one instruction of a family, and is kept in ``folder``.

    It takes the arena, the table and the instruction's row, each as a pointer and a length.
    """
    arrays = [(name, kind) for name, kind in (("arena", types.float32), ("table", types.int32), ("i", types.int64))]
    parts = tuple(part for _, kind in arrays for part in (types.CPointer(kind), types.int64))
    taken = ", ".join(f"{name}_at, {name}_size" for name, _ in arrays)
    views = "".join(f"\n  {name} = carray({name}_at, ({name}_size,))" for name, _ in arrays)
    run = _written(f"run_{family}", f"def run_{family}({taken}):{views}", family, [])
    compiled: Any = CFunc(run, (parts, types.void), {}, {"nopython": True})
    keep(compiled, folder)
    compiled.compile()
    _families[family] = compiled  # the code lives as long as the object
    address: int = compiled.address
    return address


_families: dict[str, Any] = {}


@njit(nogil=True)
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


@njit(nogil=True)
def execute(
    arena: Any, table: Any, code: Any, addresses: Any, batches: Any, numbers: Any, labels: Any, place: Any, steps: int,
    results: Any,
) -> None:  # fmt: skip
    """Run ``code`` on ``steps`` batches, taken in order and cyclically; ``batches`` as :func:`pack` fills them.

    ``place`` is a row of :class:`~mindfl.lite.program.Place`. Where its ``classes`` are 0 the result is one number per
    step, for ``results`` (steps, 1); else it is that many scores per sample, for ``results`` (count, classes).
    ``labels`` are int32, one sample's after the other's, or at least one for code that reads none; ``numbers`` int32
    (count, whole numbers of a sample), of one row at least. ``addresses`` are those of instructions compiled apart.
    """
    x, size, batch, lanes, out, classes = place[0], place[1] * place[3], place[2], place[3], place[4], place[5]
    wanted, width = batch * place[6], place[7]
    for step in range(steps):
        start = step * batch
        arena[x : x + size] = batches[step % batches.shape[0]].ravel()
        for n in range(wanted):
            table[n] = labels[(step * wanted + n) % labels.size]
        for n in range(batch):
            for k in range(width):
                table[wanted + n * width + k] = numbers[(start + n) % numbers.shape[0], k]
        _run(arena, table, code, addresses)
        if classes == 0:
            results[step, 0] = arena[out]
        else:
            for n in range(min(batch, results.shape[0] - start)):
                for c in range(classes):
                    results[start + n, c] = arena[out + c * lanes + n]
