"""The work of one cell of niid_bench as files that all contenders read: needs NumPy alone, whatever the environment.

work.json                             settings
{train,test}_{images,labels}.npy      uint8 (samples, 28, 28) and int64 (samples,)
client{0..9}.npy                      positions of each client's training samples
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Settings:
    """What is trained: the published setting of Flower's niid_bench, with fewer rounds."""

    dataset: str
    cell: str
    rounds: int
    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-5


@dataclass(frozen=True)
class NiidWork:
    """The work in ``folder``. The arrays are memory-mapped."""

    folder: Path
    settings: Settings

    @classmethod
    def load(cls, folder: str | Path) -> NiidWork:
        """Open what :meth:`save` wrote."""
        folder = Path(folder)
        return cls(folder, Settings(**json.loads((folder / "work.json").read_text())))

    @staticmethod
    def save(
        folder: Path, settings: Settings, arrays: Mapping[str, NDArray[Any]], clients: Sequence[NDArray[np.int64]]
    ) -> NiidWork:
        """Write the work into ``folder``: ``arrays`` by name, and each client's positions."""
        folder.mkdir(parents=True, exist_ok=True)
        named = {**arrays, **{f"client{index}": chosen for index, chosen in enumerate(clients)}}
        for name, array in named.items():
            np.save(folder / f"{name}.npy", array)
        (folder / "work.json").write_text(json.dumps(asdict(settings), indent=1) + "\n")
        return NiidWork(folder, settings)

    def array(self, name: str) -> NDArray[Any]:
        """Return an array by the name of its file."""
        array: NDArray[Any] = np.load(self.folder / f"{name}.npy", mmap_mode="c")
        return array

    def clients(self) -> list[NDArray[np.int64]]:
        """Return the positions of each client's training samples."""
        return [self.array(f"client{index}") for index in range(len(list(self.folder.glob("client*.npy"))))]

    @property
    def steps(self) -> int:
        """Training steps of one round."""
        batch = self.settings.batch_size
        return sum(-(-len(chosen) // batch) for chosen in self.clients()) * self.settings.epochs


class Clock:
    """Notes when training began and when each round ended, and the accuracy on the whole test set after each."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.processor: list[float] = []
        self.accuracies: list[float] = []

    def tick(self, elsewhere: float = 0.0) -> None:
        """Note the time: training begins, or a round is over, its evaluation included.

        ``elsewhere`` is the processor time so far of other processes that take part.
        """
        self.times.append(time.time())
        self.processor.append(time.process_time() + elsewhere)

    def save(self, path: str | Path, versions: Mapping[str, str]) -> None:
        """Write what was noted."""
        content = {
            "times": self.times,
            "processor": self.processor,
            "accuracies": self.accuracies,
            "versions": dict(versions),
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
