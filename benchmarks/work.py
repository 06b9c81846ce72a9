"""The work that every contender does, as files that all of them read: needs NumPy alone, whatever the environment.

work.json     settings, and where each client's samples lie
images.npy    float32 (samples, 3, 32, 32) in 0..1: what PyTorch takes, so that no contender has anything to convert
labels.npy    int64 (samples,)
weights.npz   the initial weights by PyTorch's names and in PyTorch's layout
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Client(NamedTuple):
    """Where a client's samples lie: ``train`` samples from ``first`` on, followed by ``test`` samples."""

    name: str
    first: int
    train: int
    test: int


@dataclass(frozen=True)
class Settings:
    """The training task, apart from the data."""

    epochs: int
    iterations: int
    batch_size: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9


@dataclass(frozen=True)
class Work:
    """The work in ``folder``. The arrays are memory-mapped."""

    folder: Path
    settings: Settings
    clients: tuple[Client, ...]
    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def load(cls, folder: str | Path) -> Work:
        """Open what :func:`save` wrote."""
        folder = Path(folder)
        content = json.loads((folder / "work.json").read_text())
        return cls(
            folder,
            Settings(**content["settings"]),
            tuple(Client(*client) for client in content["clients"]),
            np.load(folder / "images.npy", mmap_mode="c"),
            np.load(folder / "labels.npy", mmap_mode="c"),
        )

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The initial weights."""
        with np.load(self.folder / "weights.npz") as archive:
            return dict(archive)

    @property
    def steps(self) -> int:
        """Training steps of one iteration."""
        return sum(-(-client.train // self.settings.batch_size) for client in self.clients) * self.settings.epochs

    def train_batches(self, client: Client) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return a client's training images and labels; samples from the first on are repeated at its end."""
        batch = self.settings.batch_size
        positions = client.first + np.arange(-(-client.train // batch) * batch) % client.train
        return self.images[positions], self.labels[positions]

    def test_samples(self, client: Client) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return a client's test images and labels."""
        chosen = slice(client.first + client.train, client.first + client.train + client.test)
        return self.images[chosen], self.labels[chosen]


def save(
    folder: Path,
    settings: Settings,
    clients: list[Client],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write the work into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    np.savez(folder / "weights.npz", allow_pickle=False, **weights)
    content = {"settings": asdict(settings), "clients": clients}
    (folder / "work.json").write_text(json.dumps(content, indent=1) + "\n")


def contender_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every contender is given first."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("work", help="folder of the work")
    parser.add_argument("result", help="JSON file to write")
    return parser


class Recorder:
    """Notes when each iteration ended, the clients' training loss, and their accuracy with the aggregated model."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._losses: list[float] = []
        self._accuracies: list[float] = []

    def iteration_ended(self, *, loss: float, accuracy: float) -> None:
        """Note the time: training, aggregation and evaluation of an iteration are over.

        ``loss`` is that of the last local epochs, a mean weighted by the clients' training samples; ``accuracy`` is a
        plain mean.
        """
        self._ends.append(time.time())
        self._losses.append(loss)
        self._accuracies.append(accuracy)

    def save(self, path: str | Path, versions: Mapping[str, Any]) -> None:
        """Write what was noted."""
        content = {
            "ends": self._ends,
            "losses": self._losses,
            "accuracies": self._accuracies,
            "versions": dict(versions),
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
