"""Corrections in a program: one instruction before each optimizer computes the corrected gradient, one after it moves
the weight.

The optimizer reads the corrected gradient instead of the plain one; its own arithmetic does not change.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.lite.ops import NOWHERE
from mindfl.lite.program import Builder, Program, Update
from mindfl.spelling import did_you_mean

if TYPE_CHECKING:
    from mindfl.algorithms.algorithm import Arrays, Correction

Floats = NDArray[np.float32]


class CorrectionPlan:
    """Places of a correction's arrays in an arena, from ``start`` on, after those of the plain programs."""

    def __init__(self, program: Program, parameters: Mapping[str, int], start: int) -> None:
        self._program = program
        self._updates = {update.weight: update for update in program.updates}
        builder = Builder(program.place.batch, start)
        self._scale, self._pull = builder.allocate(1), builder.allocate(1)
        self._shift = {name: builder.allocate(size) for name, size in parameters.items()}
        self._towards = {name: builder.allocate(size) for name, size in parameters.items()}
        self._corrected = builder.allocate(max(parameters.values()))
        self._one = builder.allocate(1)
        self._after = {name: builder.allocate(size) for name, size in parameters.items()}
        self.end = builder.size

    def load(self, arena: Floats, correction: Correction) -> NDArray[np.int64]:
        """Copy the arrays of a correction into an arena, and return the code of a training step that applies it."""
        own = sorted(self._shift.keys() - self._updates.keys())
        if own:
            raise OptionError(
                f"an operator of your own trains weight {own[0]}: its gradient cannot be corrected",
                hint="choose an algorithm that trains plainly",
            )
        arena[self._scale], arena[self._pull], arena[self._one] = correction.scale, correction.pull, 1
        towards = correction.towards if correction.pull else {}
        given = ((correction.shift, self._shift), (towards, self._towards), (correction.after, self._after))
        for arrays, places in given:
            for name, values in arrays.items():
                arena[places[name] : places[name] + len(values)] = values
        code = self._program.code.copy()
        changed = [
            update
            for name, update in self._updates.items()
            if correction.scale != 1 or name in correction.shift or name in towards
        ]
        rows = [self._row(update, correction.shift, towards) for update in changed]
        for update in changed:
            code[update.row, update.column] = self._corrected
        moved = [self._updates[name] for name in correction.after]
        at = [update.row for update in changed] + [update.row + 1 for update in moved]
        return np.insert(code, at, np.array(rows + [self._moving_row(update) for update in moved]), axis=0)

    def _row(self, update: Update, shift: Arrays, towards: Arrays) -> NDArray[np.int64]:
        return _correct(
            gradient=update.gradient,
            weight=update.place,
            y=self._corrected,
            scale=self._scale,
            shift=self._shift[update.weight] if update.weight in shift else NOWHERE,
            pull=self._pull,
            towards=self._towards[update.weight] if update.weight in towards else NOWHERE,
            size=update.size,
        )

    def _moving_row(self, update: Update) -> NDArray[np.int64]:
        """Return the instruction that moves a weight: ``1 * weight + after``, written over the weight."""
        return _correct(
            gradient=update.place,
            weight=update.place,
            y=update.place,
            scale=self._one,
            shift=self._after[update.weight],
            pull=self._pull,
            towards=NOWHERE,
            size=update.size,
        )


def _correct(**operands: int) -> NDArray[np.int64]:
    builder = Builder(1, 0)
    builder.emit("CORRECT", **operands)
    row: NDArray[np.int64] = builder.code()[0]
    return row


def without(names: Collection[str], correction: Correction | None) -> Correction | None:
    """Return a correction without the arrays of these names."""
    if correction is None or not names:
        return correction
    left = [
        {name: arrays[name] for name in arrays if name not in names}
        for arrays in (correction.shift, correction.towards, correction.after)
    ]
    return replace(correction, shift=left[0], towards=left[1], after=left[2])


def checked(correction: Correction | None, sizes: Mapping[str, int]) -> Correction | None:
    """Return a correction with copies of its arrays as float32; None for one that changes no gradient.

    Raises :class:`OptionError` for a name that is no parameter, a wrong size, values that are no numbers, and factors
    that are not finite.
    """
    from mindfl.algorithms.algorithm import Correction

    if correction is None:
        return None
    try:
        scale, pull = float(correction.scale), float(correction.pull)
    except (TypeError, ValueError):
        raise OptionError(
            f"correction: scale {correction.scale!r} and pull {correction.pull!r} must be numbers"
        ) from None
    if not math.isfinite(scale) or not 0 <= pull < math.inf:
        raise OptionError(f"correction: scale {scale} must be finite and pull {pull} finite and at least 0")
    if pull and not correction.towards:
        raise OptionError(f"correction: pull {pull} without towards", hint="give the weights that it pulls towards")
    shift, towards, after = (
        _arrays(field, getattr(correction, field), sizes) for field in ("shift", "towards", "after")
    )
    plain = scale == 1 and not shift and not pull and not after
    return None if plain else Correction(scale=scale, shift=shift, pull=pull, towards=towards, after=after)


def _arrays(field: str, given: Any, sizes: Mapping[str, int]) -> dict[str, Floats]:
    if not isinstance(given, Mapping):
        raise OptionError(f"correction: {field} is {type(given).__name__}, not arrays by name")
    return {name: _array(field, name, values, sizes) for name, values in given.items()}


def _array(field: str, name: str, values: NDArray[Any], sizes: Mapping[str, int]) -> Floats:
    if name not in sizes:
        raise OptionError(
            f"correction: {field} has {name!r}, which is no trained weight", hint=did_you_mean(name, sizes)
        )
    try:
        array = np.array(values, np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise OptionError(f"correction: {field} of weight {name} is no array of numbers: {error}") from None
    if array.size != sizes[name]:
        raise OptionError(f"correction: {field} has {array.size} values for weight {name}, which has {sizes[name]}")
    return array
