"""Samples parked on disk between the pass that reads the input and the pass that writes the users in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mindfl.data.pixels import GreyFile
from mindfl.data.samples import Samples


class Spill:
    """A temporary file of samples inside ``folder``; removed when the ``with`` block is left."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".spill"
        self._file = self._path.open("wb")
        self._labels: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []
        self._starts = [0]

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._file.close()
        finally:
            self._path.unlink(missing_ok=True)

    def append(self, samples: Samples) -> int:
        """Park ``samples`` and return the number to read them back by."""
        self._file.write(samples.grey.tobytes())
        self._labels.append(samples.labels.astype(np.uint8))
        self._starts.append(self._starts[-1] + len(samples.labels))
        return len(self._labels) - 1

    def read(self, number: int) -> Samples:
        """Return the samples that :meth:`append` gave ``number``."""
        self._file.flush()
        labels = self._labels[number]
        grey = GreyFile(self._path, "(spilled)").raw(self._starts[number], len(labels))
        return Samples(grey, labels)
