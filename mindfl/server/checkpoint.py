"""The checkpoint after each iteration, named as the MindSpore Federated 0.1.0 server names its own.

``<fl_name>_recovery_iteration_<k>_<yyyymmdd_HHMMSS>.ckpt`` in local time, mode 0400, the newest three kept. Its weights
are in MindSpore's order. If it is not known which of them are the filters of convolutions, they are in the order of
devices, and ``_device_order`` stands before the suffix.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Set
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, OptionError, StorageError
from mindfl.files import PathLike, write_atomic
from mindfl.server.ckpt import encode_ckpt
from mindfl.server.initial import device_weights
from mindfl.server.iteration import IterationRecord

KEPT = 3
DEVICE_ORDER = "_device_order"
_TO_KCHW = (0, 3, 1, 2)

_logger = logging.getLogger(__name__)


class Recovered(NamedTuple):
    """The model of the last ``iteration`` that has a readable checkpoint, in the order of devices, and the file that it
    came from. ``filters``: see :class:`~mindfl.server.initial.DeviceWeights`."""

    iteration: int
    weights: dict[str, NDArray[np.float32]]
    path: Path
    filters: Set[str] | None


class CheckpointWriter:
    """Writes the model of each ended iteration, given its :class:`IterationRecord`, into ``folder``.

    ``shapes`` are those of the weights by name, which the coordinator keeps flat. ``filters`` names those that devices
    hold as [out, height, width, in] and MindSpore as [out, in, height, width]; None where that is not known. Raises
    :class:`OptionError` for an ``fl_name`` that no file name can hold. ``last_path`` is the newest file written.
    """

    def __init__(
        self,
        folder: PathLike,
        fl_name: str,
        shapes: Mapping[str, tuple[int, ...]],
        filters: Set[str] | None = frozenset(),
    ) -> None:
        if "/" in fl_name or "\0" in fl_name:
            raise OptionError(f"fl_name {fl_name!r} cannot be part of a checkpoint's file name")
        self.last_path: Path | None = None
        self._folder = Path(folder)
        self._fl_name = fl_name
        self._shapes = dict(shapes)
        self._filters = filters or frozenset()
        self._end = f"{DEVICE_ORDER}.ckpt" if filters is None else ".ckpt"

    def __call__(self, record: IterationRecord) -> None:
        """Write the checkpoint of an iteration and remove older ones, of which three stay.

        Those of the same or a higher iteration belong to an earlier instance of the job and would be taken for newer
        ones at the next start: they are removed too. Raises :class:`StorageError`, with the older files untouched.
        """
        weights = {name: record.model[name].reshape(shape) for name, shape in self._shapes.items()}
        for name in self._filters:
            weights[name] = weights[name].transpose(_TO_KCHW)
        time = datetime.fromtimestamp(record.end_ms / 1000)
        name = f"{self._fl_name}_recovery_iteration_{record.iteration}_{time:%Y%m%d_%H%M%S}{self._end}"
        path = self._folder / name
        write_atomic(path, encode_ckpt(weights, self._filters))
        try:
            path.chmod(0o400)
            self._remove_all_but_newest(path, record.iteration)
        except OSError as error:
            raise StorageError.from_os_error(error, "keep checkpoints in", self._folder) from None
        self.last_path = path

    def _remove_all_but_newest(self, newest: Path, iteration: int) -> None:
        others = [(number, path) for number, path in _found(self._folder, self._fl_name) if path != newest]
        older = [path for number, path in others if number < iteration]
        for path in [path for number, path in others if number >= iteration] + older[KEPT - 1 :]:
            path.unlink(missing_ok=True)


def latest(folder: PathLike, fl_name: str) -> Recovered | None:
    """Return the newest readable checkpoint of ``fl_name``, or None if there is none.

    A damaged one is logged as a warning and the one before is taken. Raises :class:`StorageError` if the folder exists
    but cannot be read.
    """
    for iteration, path in _found(Path(folder), fl_name):
        try:
            found = device_weights(path)
            return Recovered(iteration, found.arrays, path, found.filters)
        except (ModelFormatError, StorageError) as error:
            _logger.warning("%s: the checkpoint before it is used", error)
    return None


def _found(folder: Path, fl_name: str) -> list[tuple[int, Path]]:
    """Return the checkpoints in ``folder`` with their iterations, newest first."""
    pattern = re.compile(
        rf"{re.escape(fl_name)}_recovery_iteration_([0-9]{{1,18}})_([0-9]{{8}}_[0-9]{{6}})({DEVICE_ORDER})?\.ckpt"
    )
    try:
        names = [match for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError.from_os_error(error, "read", folder) from None
    names.sort(key=lambda match: (int(match[1]), match[2]), reverse=True)
    return [(int(match[1]), folder / match[0]) for match in names]
