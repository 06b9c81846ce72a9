"""Memory that values share: two blocks lie in the same place if no step needs both at once.

A program is planned with a place of its own for each value. A block is needed from the first instruction that names a
place in it to the last one. Larger blocks are placed first, each in the smallest gap between the blocks that are needed
at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.lite.ops.registry import INSTRUCTIONS
from mindfl.lite.program import ARENA_LIMIT, Program, Value, too_large

Numbers = NDArray[np.int64]
#: most blocks of a program that share memory, the largest: the time for finding their places grows with the square
_MOST = 2**13


def share_memory(programs: Sequence[Program], start: int) -> tuple[list[Program], int]:
    """Return programs, no two of which run at once, in one arena from ``start`` on, and the arena's end.

    What a program keeps from step to step has a place of its own. Raises :class:`ModelFormatError` for an arena larger
    than the limit.
    """
    lives = [_Lives(program) for program in programs]
    for each in lives:
        start = each.place_apart(start)
    ends = [each.place_shared(start) for each in lives]
    end = max(ends, default=start)
    if end > ARENA_LIMIT:
        raise too_large()
    return [each.moved(start, end) for each in lives], end


class _Lives:
    """The blocks of a program: ``first`` and ``last`` instruction that needs each, and their new places.

    A block that is needed before the first instruction has a ``first`` of -1.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._starts = np.array(list(program.blocks), np.int64)
        self._sizes = np.array(list(program.blocks.values()), np.int64)
        self._places = np.full(len(self._starts), -1, np.int64)
        rows, columns = _places_in(program.code)
        self._rows, self._columns = rows, columns
        count = len(program.code)
        found = [(self._blocks(program.code[rows, columns]), rows)]
        for row, call in zip(np.flatnonzero(program.code[:, 0] < 0), _calls(program), strict=True):
            values = [item.offset for item in (*call.inputs, *call.outputs) if isinstance(item, Value)]
            found.append((self._blocks(np.array(values, np.int64)), np.full(len(values), row)))
        ends = np.array([program.place.x, program.place.result], np.int64)
        found.append((self._blocks(ends), np.array([-1, count])))
        self.first, self.last = np.full(len(self._starts), count + 1), np.full(len(self._starts), -2)
        for blocks, at in found:
            np.minimum.at(self.first, blocks[blocks >= 0], at[blocks >= 0])
            np.maximum.at(self.last, blocks[blocks >= 0], at[blocks >= 0])
        self._kept = np.isin(self._starts, [*program.kept, *program.literals])

    def _blocks(self, places: Numbers) -> Numbers:
        """Return the block of each place; -1 for a constant of the model, and for no place."""
        blocks: Numbers = np.searchsorted(self._starts, places, "right") - 1
        return blocks

    def place_apart(self, start: int) -> int:
        """Place what is kept, and what is too small to count among many, from ``start`` on; return the end."""
        used = np.flatnonzero(self.last > -2)
        largest = np.argsort(-self._sizes[used], kind="stable")[:_MOST]
        alone = np.setdiff1d(used, used[largest], assume_unique=True)
        for block in np.union1d(alone, np.flatnonzero(self._kept)):
            self._places[block] = start
            start += int(self._sizes[block])
        return start

    def place_shared(self, start: int) -> int:
        """Place all other blocks from ``start`` on, and return the end."""
        left = np.flatnonzero((self.last > -2) & (self._places < 0))
        places = placed(self._sizes[left], self.first[left], self.last[left])
        self._places[left] = start + places
        return start + int((places + self._sizes[left]).max(initial=0))

    def moved(self, shared: int, end: int) -> Program:
        """Return the program with the new places; memory from ``shared`` to ``end`` is that of several values."""
        program, code = self._program, self._program.code.copy()
        code[self._rows, self._columns] = self._new(code[self._rows, self._columns])
        return replace(
            program,
            code=code,
            place=replace(program.place, x=self._one(program.place.x), result=self._one(program.place.result)),
            literals={self._one(offset): numbers for offset, numbers in program.literals.items()},
            end=end,
            updates=tuple(
                replace(update, gradient=self._one(update.gradient), place=self._one(update.place))
                for update in program.updates
            ),
            calls=tuple(
                replace(call, inputs=self._items(call.inputs), outputs=self._items(call.outputs))
                for call in program.calls
            ),
            blocks={},
            kept=frozenset(),
            shared=shared,
        )

    def _new(self, places: Numbers) -> Numbers:
        blocks = self._blocks(places)
        inside = blocks >= 0
        found: Numbers = places.copy()
        found[inside] += self._places[blocks[inside]] - self._starts[blocks[inside]]
        return found

    def _one(self, place: int) -> int:
        return int(self._new(np.array([place], np.int64))[0])

    def _items(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(item, offset=self._one(item.offset)) if isinstance(item, Value) else item for item in items
        )


def placed(sizes: Numbers, first: Numbers, last: Numbers) -> Numbers:
    """Return a place for each block such that no two overlap that are needed at once, ``last`` included."""
    found = np.full(len(sizes), -1, np.int64)
    order = np.lexsort((first, -sizes))
    for number, block in enumerate(order):
        others = order[:number]
        meeting = others[(first[others] <= last[block]) & (last[others] >= first[block])]
        meeting = meeting[np.argsort(found[meeting], kind="stable")]
        begins = found[meeting]
        ends = np.concatenate(([0], np.maximum.accumulate(begins + sizes[meeting])))
        gaps = begins - ends[:-1]
        fitting = np.flatnonzero(gaps >= sizes[block])
        found[block] = ends[fitting[np.argmin(gaps[fitting])]] if fitting.size else ends[-1]
    return found


def _calls(program: Program) -> list[Any]:
    return [program.calls[-1 - number] for number in program.code[program.code[:, 0] < 0, 0]]


def _places_in(code: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rows and columns of a program's code that name places."""
    known = list(INSTRUCTIONS.values())
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number in np.unique(code[:, 0]):
        if number >= 0:
            at = np.flatnonzero(code[:, 0] == number)
            for column in known[number].places:
                here = at[code[at, column] >= 0]
                rows.append(here)
                columns.append(np.full(len(here), column))
    return np.concatenate(rows), np.concatenate(columns)
