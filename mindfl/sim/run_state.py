"""The state of a run after its latest iteration, from which ``--resume`` continues with the same bits.

It holds everything that the next iterations depend on, as named arrays and plain values. All random numbers of an
iteration follow from the seed, the client and the iteration's number.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, SimulationError
from mindfl.files import read_file, write_atomic

NAME = "resume.npz"
_VALUES = "values.json"
_WEIGHT, _ARRAY, _VALUE = "weight/", "array/", "value/"
_KEY = "<array>"


@dataclass(frozen=True)
class RunState:
    """The run after ``iteration``: the ``weights`` (flat float32 by name), and further ``values`` and ``arrays``.

    Values are numbers, texts, truth values, None, arrays of numbers, and lists and dictionaries of these.
    """

    iteration: int
    weights: Mapping[str, NDArray[np.float32]]
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replace the state in ``folder``. A killed process leaves the old one or the new one, whole."""
        arrays: dict[str, Any] = {_WEIGHT + name: array for name, array in self.weights.items()}
        arrays |= {_ARRAY + name: array for name, array in self.arrays.items()}

        def aside(array: NDArray[Any]) -> dict[str, str]:
            name = f"{_VALUE}{len(arrays)}"
            arrays[name] = array
            return {_KEY: name}

        values = json.dumps({"iteration": self.iteration, **self.values}, default=aside)
        content = io.BytesIO()
        np.savez(content, **{_VALUES: np.frombuffer(values.encode(), np.uint8), **arrays})
        write_atomic(folder / NAME, content.getvalue(), durable=False)

    @classmethod
    def load(cls, folder: Path) -> RunState | None:
        """Return the state in ``folder``, None if there is none. Raises :class:`ModelFormatError` if damaged."""
        path = folder / NAME
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as archive:
                values = json.loads(archive[_VALUES].tobytes(), object_hook=partial(_with_array, archive))
                weights, arrays = (
                    {name.removeprefix(kind): archive[name] for name in archive.files if name.startswith(kind)}
                    for kind in (_WEIGHT, _ARRAY)
                )
            weights = {name: np.asarray(array, np.float32) for name, array in weights.items()}
            return cls(int(values.pop("iteration")), weights, values, arrays)
        except Exception as error:  # NumPy and zipfile fail in any of many ways on damaged files
            raise ModelFormatError(
                f"the state in {path} is damaged: {error}", hint="start again with --overwrite"
            ) from None


def plain_values(value: Any, owner: str) -> Any:
    """Return ``value`` as :class:`RunState` brings it back: tuples as lists, numbers of NumPy as Python's.

    Raises :class:`SimulationError` naming ``owner`` for what cannot be saved.

    Example:
        >>> plain_values({"seen": (1, 2)}, "sampler X")
        {'seen': [1, 2]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return value
    if isinstance(value, list | tuple):
        return [plain_values(each, owner) for each in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: plain_values(each, owner) for name, each in value.items()}
    raise SimulationError(
        f"{owner}: its state holds a {type(value).__name__}, which cannot be saved",
        hint="keep numbers, texts, None, arrays of numbers, and lists and dictionaries (by text) of these",
    )


def _with_array(archive: Mapping[str, NDArray[Any]], entry: dict[str, Any]) -> Any:
    return archive[entry[_KEY]] if entry.keys() == {_KEY} else entry
