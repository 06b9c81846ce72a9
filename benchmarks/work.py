"""The work that every contender does, as files that all of them read: needs NumPy alone, whatever the environment.

work.json     settings, and where each client's samples lie
samples.npy   what PyTorch takes, so that it has nothing to convert: images, float32 (samples, channels, height, width)
              in 0..1, or ids of tokens, int32 (samples, length), or (samples, 3, length) with segments and mask
labels.npy    int64 (samples,)
weights.npz   the initial weights by MindSpore's names and in MindSpore's order of dimensions
"""

from __future__ import annotations

import argparse
import json
import os
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
    network: str = "lenet"
    classes: int = 62
    vocabulary: int | None = None


@dataclass(frozen=True)
class Work:
    """The work in ``folder``. The arrays are memory-mapped."""

    folder: Path
    settings: Settings
    clients: tuple[Client, ...]
    samples: NDArray[Any]
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
            np.load(folder / "samples.npy", mmap_mode="c"),
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

    def train_batches(self, client: Client) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return a client's training samples and labels; samples from the first on are repeated at its end."""
        batch = self.settings.batch_size
        positions = client.first + np.arange(-(-client.train // batch) * batch) % client.train
        return self.samples[positions], self.labels[positions]

    def test_samples(self, client: Client) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return a client's test samples and labels."""
        chosen = slice(client.first + client.train, client.first + client.train + client.test)
        return self.samples[chosen], self.labels[chosen]


def save(
    folder: Path,
    settings: Settings,
    clients: list[Client],
    samples: NDArray[Any],
    labels: NDArray[np.int64],
    weights: Mapping[str, NDArray[np.float32]],
) -> None:
    """Write the work into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "samples.npy", samples)
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


def processor_seconds() -> float:
    """Return the processor time so far of this process and of all that it started, directly or not."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        process = int(stat.parent.name)
        parents[process], ticks[process] = int(fields[1]), sum(map(int, fields[11:15]))
    own = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks[process] for process in own) / os.sysconf("SC_CLK_TCK")


class Recorder:
    """Notes when each iteration ended, the processor time so far, and the clients' training loss and accuracy."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._losses: list[float] = []
        self._accuracies: list[float] = []
        self._processor: list[float] = []

    def iteration_ended(self, *, loss: float, accuracy: float) -> None:
        """Note the time: training, aggregation and evaluation of an iteration are over.

        ``loss`` is that of the last local epochs, a mean weighted by the clients' training samples; ``accuracy`` is a
        plain mean.
        """
        self._ends.append(time.time())
        self._processor.append(processor_seconds())
        self._losses.append(loss)
        self._accuracies.append(accuracy)

    def save(self, path: str | Path, versions: Mapping[str, Any]) -> None:
        """Write what was noted."""
        content = {
            "ends": self._ends,
            "processor": self._processor,
            "losses": self._losses,
            "accuracies": self._accuracies,
            "versions": dict(versions),
        }
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
