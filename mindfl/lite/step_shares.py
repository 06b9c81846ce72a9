"""One training step by several threads, for sessions that are fewer than the processors.

Large instructions are divided: each thread computes some of the rows, columns, filters or elements of the result, with
the instruction that a single thread executes, so each element is computed by one thread in the order of additions
that it always has, and the result is bitwise the same for any number of threads. All other instructions are the first
thread's. The threads meet before and after each divided instruction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.lite.kernels import Machine
from mindfl.lite.kernels.primitives import PANEL_DEPTH, PANEL_VECTORS, VECTOR
from mindfl.lite.ops import INSTRUCTIONS
from mindfl.lite.ops.maps import MAPS
from mindfl.lite.program import Builder, Program

Operands = dict[str, int]
Array = NDArray[Any]

#: floats of the panel that a matrix product packs: each thread needs its own
PANEL_SIZE = PANEL_DEPTH * PANEL_VECTORS * VECTOR
#: multiply-adds of an instruction for which threads meet, about 0.1 ms; LeNet has no such instruction
_LEAST = 2**22
#: what an element of an optimizer or of a sum costs, and of a function such as GELU, in multiply-adds
_ELEMENT, _FUNCTION = 16, 64


@dataclass(frozen=True)
class _Cut:
    """How an instruction is divided: the operand that counts, and by how much each place moves for one of them.

    A move is the product of numbers and operands. Shares are multiples of ``whole``; ``work`` is what one of the
    count costs, a product likewise.
    """

    count: str
    moves: Mapping[str, tuple[int | str, ...]]
    whole: int = 8
    work: tuple[int | str, ...] = ()


def _elements(*places: str, cost: int = _ELEMENT) -> _Cut:
    one: tuple[int | str, ...] = (1,)
    return _Cut("size", dict.fromkeys(places, one), VECTOR, (cost,))


_CUTS = {
    "CONV": _Cut(
        "channels", {"weight": ("taps",), "y": ("lanes",), "start": (1,)}, 8, ("taps", "height", "width", "lanes")
    ),
    "CONV_FILTER_GRAD": _Cut(
        "channels", {"dy": ("lanes",), "dw": ("taps",), "sums": ("taps", VECTOR)}, 4, ("taps", "positions")
    ),
    "DENSE": _Cut("rows", {"weight": ("row_step",), "y": ("lanes",), "start": (1,)}, 8, ("columns", "lanes")),
    "MATRIX_PRODUCT": _Cut("rows", {"a": ("a_row",), "y": ("columns",)}, 8, ("columns", "depth")),
    "MOMENTUM": _elements("weight", "state", "gradient"),
    "SGD": _elements("weight", "gradient", "state", "stat"),
    "ADAM": _elements("weight", "mean", "variance", "gradient"),
    "ADAM_WEIGHT_DECAY": _elements("weight", "mean", "variance", "gradient"),
    "RELU": _elements("x", "y"),
    "RELU_GRAD": _elements("dy", "y", "dx"),
    "ADD": _elements("a", "b", "y"),
}
_OF_ROWS = _Cut("rows", {"a": ("a_row",), "y": ("y_step",), "tail": (VECTOR,)}, 8, ("columns", "inner"))
_OF_COLUMNS = _Cut("columns", {"b": (1,), "y": (1,)}, 2 * VECTOR, ("rows", "inner"))


def _cut_of(name: str, operands: Operands, table: Array) -> _Cut | None:
    """Return how an instruction is divided; None for one that is not."""
    if name == "ROW_PRODUCT":
        return _OF_ROWS if operands["row_block"] < operands["rows"] else _OF_COLUMNS
    if name == "MATRIX_PRODUCT":
        axes = table[operands["outer_table"] :][: 3 * operands["outer"] : 3]
        return _CUTS[name] if axes.prod() == 1 else None
    if INSTRUCTIONS[name].operands in MAPS:
        return _elements(*({"x", "a", "b", "y"} & operands.keys()), cost=_FUNCTION)
    return _CUTS.get(name)


def _shares(name: str, operands: Operands, table: Array, threads: int, spare: int) -> list[Operands]:
    """Return what each thread executes of an instruction, or the whole alone where dividing it does not pay."""
    cut = _cut_of(name, operands, table)
    if cut is None:
        return [operands]
    count = operands[cut.count]
    if count * _product(cut.work, operands) < _LEAST:
        return [operands]
    units = -(-count // cut.whole)
    ends = [min(units * (number + 1) // threads * cut.whole, count) for number in range(threads)]
    shares = []
    for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
        share = {**operands, cut.count: end - begin}
        for place, factors in cut.moves.items():
            share[place] += begin * _product(factors, operands) if share[place] >= 0 else 0
        if "packed" in share and number:
            share["packed"] = spare + (number - 1) * PANEL_SIZE
        shares.append(share)
    return [share for share in shares if share[cut.count]]


def _product(factors: tuple[int | str, ...], operands: Operands) -> int:
    return math.prod(operands[each] if isinstance(each, str) else each for each in factors)


def divided(code: Array, table: Array, threads: int, counter: int, spare: int) -> list[Array]:
    """Return the instructions of each of several threads; those of one where there is nothing to divide.

    Args:
        code: the instructions of a step.
        table: the program's table.
        threads: at least 1.
        counter: address of an int64 for the threads' meetings, 0 at first.
        spare: place in the arena of ``threads - 1`` panels of :data:`PANEL_SIZE` floats.
    """
    names, open_share = list(INSTRUCTIONS), False
    builders = [Builder(1, 0) for _ in range(threads)]

    def all_meet() -> None:
        for builder in builders:
            builder.emit("MEET", counter=counter, threads=threads)

    for row in code.tolist():
        name = names[row[0]]
        operands = dict(zip(INSTRUCTIONS[name].operands, row[1:], strict=False))
        shares = _shares(name, operands, table, threads, spare)
        if len(shares) > 1 or open_share:
            all_meet()
        open_share = len(shares) > 1
        for builder, share in zip(builders, shares, strict=False):
            builder.emit(name, **share)
    if open_share:
        all_meet()
    return [builder.code() for builder in builders if builder.rows]


class Team:
    """The threads that share the steps of one session; made for its arena, behind which lie their panels."""

    def __init__(self, threads: int, spare: int) -> None:
        self._size, self._spare = threads, spare
        self._threads = ThreadPoolExecutor(threads - 1, "mindfl-helper")
        self._counter = np.zeros(1, np.int64)
        self._code: Array | None = None
        self._parts: list[Array] = []

    def execute(
        self, machine: Machine, arena: Array, table: Array, program: Program, code: Array, batches: Array,
        numbers: Array, labels: Array, steps: int, results: Array,
    ) -> None:  # fmt: skip
        """Run a program with the result of the machine's ``execute``: here what one thread does, elsewhere the rest."""
        if code is not self._code:
            self._code = code
            self._parts = divided(code, table, self._size, self._counter.ctypes.data, self._spare)
            for part in self._parts:
                machine.prepare(part)
        place, addresses = program.place, machine.addresses
        nothing, unused = np.zeros((1, 0, place.lanes), np.float32), np.zeros((steps, 1), np.float32)
        later = replace(place, features=0, batch=0, classes=0).row()
        helping = [
            self._threads.submit(
                machine.execute, arena, table, part, addresses, nothing, numbers, labels, later, steps, unused
            )
            for part in self._parts[1:]
        ]
        machine.execute(
            arena, table, self._parts[0], addresses, batches, numbers, labels, place.row(), steps, results
        )  # fmt: skip
        for helper in helping:
            helper.result()
