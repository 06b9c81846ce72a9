"""The state of a run after its latest iteration, from which ``--resume`` goes on with the same bits.

Whatever decides the next iterations is in it: named arrays and plain values. Everything else that an iteration draws
follows from the seed, the client and the iteration's number.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.files import read_file, write_atomic

NAME = "resume.npz"
_VALUES = "values.json"
_WEIGHT, _ARRAY = "weight/", "array/"


@dataclass(frozen=True)
class RunState:
    """The run after ``iteration``: the model's ``weights`` (flat float32 by name), and further plain ``values`` and
    ``arrays``."""

    iteration: int
    weights: Mapping[str, NDArray[np.float32]]
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replace the state in ``folder``. A killed process leaves the old one or the new one, whole."""
        values = json.dumps({"iteration": self.iteration, **self.values})
        arrays: dict[str, Any] = {_WEIGHT + name: array for name, array in self.weights.items()}
        arrays |= {_ARRAY + name: array for name, array in self.arrays.items()}
        content = io.BytesIO()
        np.savez(content, **{_VALUES: np.frombuffer(values.encode(), np.uint8), **arrays})
        write_atomic(folder / NAME, content.getvalue(), durable=False)

    @classmethod
    def load(cls, folder: Path) -> RunState | None:
        """Return the state in ``folder``, None where there is none. Raises :class:`ModelFormatError` if damaged."""
        path = folder / NAME
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as archive:
                values = json.loads(archive[_VALUES].tobytes())
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
