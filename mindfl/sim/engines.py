"""What trains on behalf of the simulated devices: the Lite runtime, or MindSpore itself."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mindfl.client import EpochReport, Trainer
from mindfl.data import Split, UserData
from mindfl.errors import InterruptedRunError
from mindfl.lite import Executable, LiteModel, Session

Weights = Mapping[str, NDArray[np.float32]]


class SimulatedTrainer(Trainer, Protocol):
    """A trainer that also tells the loss of its last epoch, for the progress display."""

    last_loss: float


class Engine(Protocol):
    """Makes trainers. ``max_workers`` limits the threads that may use them at a time (None: no limit)."""

    max_workers: int | None
    batch_size: int

    def trainer(self, user: UserData, stop: threading.Event) -> SimulatedTrainer:
        """Return a trainer of one client's data; once ``stop`` is set, training ends with InterruptedRunError."""


def mean_loss(losses: NDArray[np.float32]) -> float:
    """Return the mean over the batches of an epoch, as the reference's device reports it."""
    return float(np.mean(losses, dtype=np.float64))


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
    """Return the share of samples whose highest score (the first, where equal) is the label's."""
    return float(np.mean(logits.argmax(axis=1) == labels))


class LiteEngine:
    """Executes the ``.ms`` file. The graph is planned once; each thread has one session, whatever the client count.

    A client's optimizer state begins anew in each iteration: devices keep none between iterations, as with a freshly
    loaded model file, so that memory does not grow with the clients.
    """

    max_workers: int | None = None

    def __init__(self, model: LiteModel) -> None:
        self.model = model
        self.batch_size = 0
        self._executable = Executable(model)
        self._local = threading.local()
        self.batch_size = self.session().batch_size

    def session(self) -> Session:
        """Return the calling thread's session."""
        if not hasattr(self._local, "session"):
            self._local.session = Session(self._executable)
        session: Session = self._local.session
        return session

    def trainer(self, user: UserData, stop: threading.Event) -> SimulatedTrainer:
        """Return a trainer of one client's data."""
        return _LiteTrainer(self, user, stop)


class _LiteTrainer:
    def __init__(self, engine: LiteEngine, user: UserData, stop: threading.Event) -> None:
        self._engine = engine
        self._user = user
        self._stop = stop
        self.train_size = user.train.size
        self.eval_size = user.test.size
        self.batch_size = engine.batch_size
        self.last_loss = math.nan

    def load(self, weights: Weights) -> None:
        session = self._engine.session()
        session.reset()
        session.set_weights(weights)

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        session = self._engine.session()
        session.set_learning_rate(learning_rate)
        images, labels = self._user.train.planes(), _labels(self._user.train)
        self.last_loss = math.nan
        for epoch in range(epochs):
            if self._stop.is_set():
                raise InterruptedRunError("interrupted")
            losses = session.train(images, labels)
            report(epoch, losses.tolist())
            self.last_loss = mean_loss(losses)
        return self.last_loss

    def evaluate(self) -> float:
        return accuracy(self._logits(), _labels(self._user.test))

    def predict(self) -> NDArray[np.int_]:
        labels: NDArray[np.int_] = self._logits().argmax(axis=1)
        return labels

    def weights(self) -> Weights:
        return self._engine.session().weight_views()

    def _logits(self) -> NDArray[np.float32]:
        return self._engine.session().predict(self._user.test.planes())


def _labels(split: Split) -> NDArray[np.int32]:
    return split.labels[: split.size]
