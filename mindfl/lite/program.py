"""A program for the kernel machine: code, constant table and places in the arena, built instruction by instruction.

Shapes of values are compared without dimensions of 1, which do not change the order of the elements: converters differ
in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite.ops.registry import INSTRUCTIONS, KEY, ROW

Dims = tuple[int, ...]


def core(dims: Dims) -> Dims:
    """Return a shape without its dimensions of 1."""
    return tuple(dim for dim in dims if dim != 1)


def alike(first: Dims, second: Dims) -> bool:
    """Return whether two shapes differ only in dimensions of 1, so that their elements have the same order."""
    return core(first) == core(second)


def batch_first(dims: Dims, batch: int) -> Dims | None:
    """Return a shape from the batch on, without dimensions of 1 before it; None if it does not carry the batch."""
    start = next((place for place, dim in enumerate(dims) if dim != 1), len(dims)) if batch > 1 else 0
    if dims[start : start + 1] == (batch,):
        return dims[start:]
    return (1, *dims) if batch == 1 else None


def matrix(dims: Dims) -> Dims | None:
    """Return a shape as that of a matrix, with leading dimensions of 1 removed first; None if that is impossible."""
    left = list(dims)
    while len(left) > 2 and 1 in left:
        left.remove(1)
    return (left[0], left[1]) if len(left) == 2 else None


def last_axis(dims: Dims) -> int:
    """Return the size of the last dimension that is not 1, or 1 if all are."""
    return core(dims)[-1] if core(dims) else 1


def broadcast(first: Dims, second: Dims) -> Dims | None:
    """Return the shape of an operation on two arrays, as NumPy broadcasts them; None if they do not fit."""
    rank = max(len(first), len(second))
    pairs = list(zip(padded(first, rank), padded(second, rank), strict=True))
    return tuple(max(pair) for pair in pairs) if all(a == b or 1 in (a, b) for a, b in pairs) else None


def padded(dims: Dims, rank: int) -> Dims:
    """Return a shape of ``rank`` dimensions, with leading dimensions of 1."""
    return (1,) * (rank - len(dims)) + dims


def steps(dims: Dims, target: Dims) -> Dims:
    """Return the strides, in elements, of an array of shape ``dims`` broadcast to ``target``: 0 on repeated axes."""
    own = padded(dims, len(target))
    return tuple(0 if dim == 1 else math.prod(own[axis + 1 :]) for axis, dim in enumerate(own))


def positions(dims: Dims, apart: Sequence[int]) -> list[int]:
    """Return the offset of each element of an array of shape ``dims``, ``apart`` being the steps along its axes."""
    return [sum(map(math.prod, zip(place, apart, strict=True))) for place in product(*map(range, dims))]


#: arena offsets are multiples of this number of floats: one cache line
ALIGNMENT = 16
#: floats between buffers, so that equal positions of two large buffers differ in their address bits below the page
#: size: otherwise a load after a store to the same offset of another page stalls (4 KiB aliasing)
STAGGER = 17 * ALIGNMENT
#: most floats of a session (4 GiB): a limit for files that claim more than any phone could run
ARENA_LIMIT = 2**30
#: most labels and whole numbers of a batch
_BATCH_LIMIT = 2**27
#: most floats of the values of a program before those share memory
_PLANNED_LIMIT = 16 * ARENA_LIMIT


@dataclass(frozen=True)
class Place:
    """Places of a batch and of its result: arena offsets and sizes.

    ``classes`` is the number of scores per sample, or 0 if the result is one number for the batch. The table begins
    with ``labels`` entries per sample, then come ``numbers`` entries per sample: the inputs that are whole numbers.
    """

    x: int
    features: int
    batch: int
    lanes: int
    result: int
    classes: int
    labels: int
    numbers: int

    def row(self) -> NDArray[np.int64]:
        """Return the operands as the machine takes them."""
        sizes = [self.x, self.features, self.batch, self.lanes, self.result, self.classes, self.labels, self.numbers]
        return np.array(sizes, np.int64)


@dataclass(frozen=True)
class Update:
    """An optimizer's instruction: its ``row`` in the code, the ``column`` of the gradient, and arena offsets."""

    weight: str
    row: int
    column: int
    gradient: int
    place: int
    size: int


@dataclass(frozen=True)
class Call:
    """A user's operator between instructions: its row of code begins with -1 minus its index in ``calls``.

    ``label`` names it in errors. An input is a place, a constant other than float32, or None for the labels.
    """

    label: str
    function: Callable[..., Any]
    inputs: tuple[Value | NDArray[Any] | None, ...]
    outputs: tuple[Value, ...]


@dataclass(frozen=True)
class Program:
    """Compiled form of one task (training or prediction) of a model.

    ``draws`` is the table's offset of the key and the step from which dropout's masks follow; None without dropout.
    ``blocks`` maps the start of each block of memory to its size, in ascending order; those of ``kept`` keep their
    contents from step to step. Of programs in one arena, they share its memory from ``shared`` to ``end``.
    """

    code: NDArray[np.int64]
    table: NDArray[np.int32]
    place: Place
    literals: Mapping[int, NDArray[np.float32]]
    end: int
    updates: tuple[Update, ...] = ()
    calls: tuple[Call, ...] = ()
    draws: int | None = None
    blocks: Mapping[int, int] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()
    shared: int = 0


@dataclass(frozen=True)
class Value:
    """The place of a tensor: ``dims`` include the batch if ``batched``."""

    offset: int
    dims: tuple[int, ...]
    batched: bool

    @property
    def size(self) -> int:
        """Number of elements; if batched, of one sample."""
        return math.prod(self.dims[1:] if self.batched else self.dims)


def too_large() -> ModelFormatError:
    """Return the error for a model that needs more memory than :data:`ARENA_LIMIT`."""
    return ModelFormatError(f"the model needs more than {ARENA_LIMIT * 4 >> 30} GiB of memory")


class Builder:
    """Collects instructions, table entries and arena space.

    The table begins with ``entries`` for each sample of the running batch: its labels and whole numbers. Raises
    :class:`ModelFormatError` for more of them than any batch has.
    """

    def __init__(self, batch: int, reserved: int, entries: int = 1) -> None:
        if batch * entries > _BATCH_LIMIT:
            raise ModelFormatError(f"a batch of the model has more than {_BATCH_LIMIT} labels and whole numbers")
        self.batch = batch
        self.lanes = -(-batch // ALIGNMENT) * ALIGNMENT
        self.size = reserved
        self._table: list[int] = [0] * (batch * entries)
        self._known: dict[tuple[int, ...], int] = {}
        self._rows: list[list[int]] = []
        self.calls: list[Call] = []
        self.blocks: dict[int, int] = {}
        self.kept: set[int] = set()

    def allocate(self, count: int) -> int:
        """Return the offset of ``count`` new floats, which hold anything until an instruction writes them.

        Raises :class:`ModelFormatError` where no session has so much memory.
        """
        offset = self.size
        self.blocks[offset] = -(-count // ALIGNMENT) * ALIGNMENT + STAGGER
        self.size += self.blocks[offset]
        if count > ARENA_LIMIT or self.size > _PLANNED_LIMIT:
            raise too_large()
        return offset

    def keep(self, offset: int) -> int:
        """Mark allocated floats as zero at first, and as kept from step to step; return their offset."""
        self.kept.add(offset)
        return offset

    def allocate_batch(self, features: int) -> int:
        """Return the offset of a new batch-last buffer of ``features`` rows."""
        return self.allocate(features * self.lanes)

    def entries(self, values: Iterable[int]) -> int:
        """Return the table offset of these values, which are added unless an equal run exists."""
        key = tuple(values)
        if key not in self._known:
            self._known[key] = len(self._table)
            self._table += key
        return self._known[key]

    def own_entries(self, count: int) -> int:
        """Return the table offset of new entries that change while the program runs."""
        self._table += [0] * count
        return len(self._table) - count

    def emit(self, name: str, **operands: int) -> None:
        """Append one instruction; the operands must be those of its table row."""
        known = INSTRUCTIONS[name]
        if set(operands) != set(known.operands):
            raise TypeError(f"{name} takes {known.operands}, got {tuple(operands)}")
        row = [known.number, *(operands[key] for key in known.operands)]
        self._rows.append(row + [0] * (KEY - len(row)) + [known.key])

    def call(self, call: Call) -> None:
        """Append the call of a user's operator."""
        self.calls.append(call)
        self._rows.append([-len(self.calls)] + [0] * (ROW - 1))

    @property
    def rows(self) -> int:
        """Number of instructions emitted so far."""
        return len(self._rows)

    def code(self) -> NDArray[np.int64]:
        """Return the instructions emitted so far, one row each."""
        return np.array(self._rows, np.int64).reshape(-1, ROW)

    def table(self) -> NDArray[np.int32]:
        """Return the table."""
        return np.array(self._table, np.int32)
