"""An algorithm at work in a simulated client: a trainer that corrects its steps, and uploads and remembers arrays."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Algorithm, Arrays, Client, Correction, Training, Upload, replaced
from mindfl.algorithms.checks import Checked, Fault, flat32, kept, lent, named
from mindfl.algorithms.naming import describe
from mindfl.algorithms.server_algorithm import marked, split
from mindfl.client import EpochReport
from mindfl.data import UserData
from mindfl.errors import MindflError, OptionError

if TYPE_CHECKING:
    from mindfl.sim.engines import Engine


#: methods of an algorithm that clients call, and the one whose arrays they carry
CLIENT_METHODS = frozenset(("extras", "start", "personal", "personal_training", "begin", "end"))


def with_algorithm(engine: Engine, algorithm: Algorithm, population: int) -> Engine:
    """Return an engine whose trainers do what ``algorithm`` adds to plain training: ``engine``, if that is nothing.

    ``population`` is the number of clients of the job. Raises :class:`OptionError` where the algorithm cannot be
    calculated with the engine's optimizer.
    """
    if not replaced(algorithm) & CLIENT_METHODS:
        return engine
    if algorithm.needs_linear_optimizer and not engine.optimizer.linear:
        raise OptionError(
            f"algorithm {describe(algorithm)} does not work with the optimizer {engine.optimizer.name}: it divides a "
            "client's update by the sum of the factors of its gradients, and there is no such sum",
            hint="train with sgd or momentum",
        )
    return AlgorithmEngine(engine, algorithm, population)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What the trainer of a thread loaded last, and the further arrays that it would upload now."""

    received: Arrays
    extras: Arrays
    uploads: Mapping[str, NDArray[np.float32]]
    kept_back: Arrays = field(default_factory=dict)


class AlgorithmEngine:
    """An engine whose trainers do what ``algorithm`` adds to plain training, in a job of ``population`` clients.

    Like the engine's own sessions, the received weights are kept once per thread, not once per client.
    """

    def __init__(self, engine: Engine, algorithm: Algorithm, population: int) -> None:
        self._engine = engine
        self._thread = threading.local()
        self.checked = Checked(algorithm)
        self.personal = not replaced(algorithm).isdisjoint(("start", "personal"))
        self.max_workers = engine.max_workers
        self.batch_size = engine.batch_size
        self.optimizer = engine.optimizer
        self.layers = engine.layers
        self.names = engine.names
        self.metric = engine.metric
        self.population = population

    def trainer(self, user: UserData, stop: threading.Event) -> Any:
        """Return a trainer of one client's data."""
        return AlgorithmTrainer(self, self._engine.trainer(user, stop), user.name)

    @property
    def loaded(self) -> _Loaded:
        """What the calling thread's trainer loaded last."""
        loaded: _Loaded = self._thread.loaded
        return loaded

    @loaded.setter
    def loaded(self, loaded: _Loaded) -> None:
        self._thread.loaded = loaded


class Keeper:
    """Keeps what one client remembers; this one keeps it in memory."""

    def __init__(self) -> None:
        self._arrays: Arrays = {}

    def read(self) -> Arrays:
        """Return the arrays of the client's latest iteration, read-only; none at first."""
        return self._arrays

    def write(self, iteration: int, arrays: Arrays) -> None:
        """Replace them by those that the client remembers of ``iteration``."""
        self._arrays = arrays


class AlgorithmTrainer:
    """A trainer of one client. ``keeper`` keeps what the client remembers, ``iteration()`` is the one it is in."""

    def __init__(self, engine: AlgorithmEngine, trainer: Any, name: str) -> None:
        self._engine = engine
        self._trainer = trainer
        self._name = name
        self.keeper = Keeper()
        self.iteration: Callable[[], int] = lambda: 0

    def __getattr__(self, name: str) -> Any:
        """Sizes, losses, evaluation and prediction are the trainer's own."""
        return getattr(self._trainer, name)

    @property
    def plain(self) -> Any:
        """The trainer that evaluates the received weights, whatever the client's own are."""
        return self._trainer

    def load(self, weights: Arrays) -> None:
        """Take over the weights among ``weights``, and keep the further arrays."""
        received, extras = split(weights)
        self._trainer.load(received)
        self._engine.loaded = _Loaded(lent(received), lent(extras), {name: extras[name] for name in extras})

    def weights(self) -> Arrays:
        """Return the current weights and the further arrays to upload, valid until the next ``load`` or ``train``."""
        loaded = self._engine.loaded
        return {**self._trainer.weights(), **loaded.kept_back, **marked(loaded.uploads)}

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Train as the algorithm says; return the mean loss of the last epoch."""
        loaded, checked = self._engine.loaded, self._engine.checked
        initial_loss = self._trainer.training_loss() if checked.algorithm.needs_initial_loss else math.nan
        client = replace(self._client(learning_rate, epochs), initial_loss=initial_loss)
        second = self._second_training(client)
        before = second is not None and second.share == 1
        personal = self._trained_before(client, second) if second and before else {}
        start = self._own_weights("start", client)
        if personal or start:
            self._trainer.load({**loaded.received, **start})
        correction = checked.call("begin", client, Correction, self._fault, optional=True)
        with self._set(self._trainer.set_companion, second if not before else None):
            loss = self._corrected(correction, epochs, learning_rate, report)
            if not math.isfinite(loss):  # the client fails with that
                return loss
            if second and not before:
                personal = self._companion_weights()
        steps = epochs * -(-self._trainer.train_size // self._trainer.batch_size)
        trained = lent(self._trainer.weights())
        ended = replace(client, trained=trained, personal=personal, steps=steps, loss=loss)
        upload = checked.call("end", ended, Upload, self._fault)
        extras = {**loaded.extras, **named(upload.extras, "extras", self._fault)}
        uploads = flat32(extras, "extras", self._fault, like=loaded.extras)
        self._remember(kept(upload.memory, "memory", self._fault))
        instead = self._weights_of(upload.weights, "weights")
        self._engine.loaded = replace(loaded, uploads=uploads, kept_back=instead)
        return loss

    def evaluate(self) -> float:
        """Return the accuracy on the test data, of the personal model where there is one."""
        with self._personal():
            return float(self._trainer.evaluate())

    def predict(self) -> NDArray[np.int_]:
        """Return the predicted labels of the test data, by the personal model where there is one."""
        with self._personal():
            labels: NDArray[np.int_] = self._trainer.predict()
            return labels

    @contextmanager
    def _personal(self) -> Iterator[None]:
        """Put the personal weights in place of the received ones for a while."""
        personal = self._engine.personal  # else nothing need be read
        own = self._own_weights("personal", self._client(math.nan, 0)) if personal else {}
        if not own:
            yield
            return
        received = self._engine.loaded.received
        self._trainer.load({**received, **own})
        yield
        self._trainer.load(received)

    def _client(self, learning_rate: float, epochs: int) -> Client:
        engine, loaded = self._engine, self._engine.loaded
        return Client(
            name=self._name,
            iteration=self.iteration(),
            received=loaded.received,
            extras=loaded.extras,
            memory=self.keeper.read(),
            learning_rate=learning_rate,
            batch_size=self._trainer.batch_size,
            epochs=epochs,
            samples=self._trainer.train_size,
            population=engine.population,
            optimizer=engine.optimizer,
            layers=engine.layers,
        )

    def _second_training(self, client: Client) -> Training | None:
        made = self._engine.checked.call("personal_training", client, Training, self._fault, optional=True)
        return None if made is None else replace(made, start=self._weights_of(made.start, "start"))

    def _trained_before(self, client: Client, training: Training) -> Arrays:
        """Return the weights after a second training of its own, flat."""
        self._trainer.load({**client.received, **training.start})
        loss = self._corrected(training.correction, client.epochs, client.learning_rate, lambda epoch, losses: None)
        self._check_personal(loss)
        return lent({name: values.copy() for name, values in self._trainer.weights().items()})

    def _companion_weights(self) -> Arrays:
        """Return the weights after a second training in turn with the model's, flat."""
        companion = self._trainer.companion
        self._check_personal(companion.loss)
        return lent({name: companion.weights[name] for name in self._engine.loaded.received})

    def _check_personal(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise self._fault(f"the loss of the personal training is {loss}", "lower the learning rate")

    def _own_weights(self, method: str, client: Client) -> Arrays:
        own = self._engine.checked.call(method, client, Mapping, self._fault, optional=True)
        return {} if own is None else self._weights_of(own, method)

    def _weights_of(self, given: Any, what: str) -> Arrays:
        """Return some of the received weights' replacements, checked."""
        received, given = self._engine.loaded.received, named(given, what, self._fault)
        known = {name: values for name, values in received.items() if name in given}
        return flat32(given, what, self._fault, like=known)

    def _remember(self, arrays: Arrays) -> None:
        try:
            self.keeper.write(self.iteration(), arrays)
        except OptionError as error:
            raise self._fault(f"memory: {error}", error.hint) from None

    def _corrected(self, correction: Any, epochs: int, learning_rate: float, report: EpochReport) -> float:
        with self._set(self._trainer.set_correction, correction):
            return float(self._trainer.train(epochs, learning_rate, report))

    @contextmanager
    def _set(self, setter: Callable[[Any], None], value: Any) -> Iterator[None]:
        """Give the trainer a correction or a companion for a while; None: neither."""
        if value is None:
            yield
            return
        try:
            setter(value)
        except OptionError as error:
            raise self._fault(str(error), error.hint) from None
        try:
            yield
        finally:
            setter(None)

    @property
    def _fault(self) -> Fault:
        return lambda cause, hint: MindflError(f"algorithm {self._engine.checked.name}: {cause}", hint=hint)
