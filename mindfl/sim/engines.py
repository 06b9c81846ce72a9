"""Training engines of simulated clients: the interface, and the Lite runtime."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.algorithm import Correction, Training
from mindfl.algorithms.local_optimizer import LocalOptimizer
from mindfl.client import EpochReport
from mindfl.data import Split, UserData
from mindfl.errors import InterruptedRunError, OptionError
from mindfl.lite import Batches, Executable, LiteModel, Session
from mindfl.lite.companion import Companion
from mindfl.lite.kernels import uncached_families
from mindfl.lite.loss_part import LabelKind
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.options.job_options import MetricName
from mindfl.sim.evaluation import Cells, cells_of
from mindfl.sim.metrics import ACCURACY, Measure, chosen_metric, perplexity

Weights = Mapping[str, NDArray[np.float32]]
SamplesT = TypeVar("SamplesT")
#: epoch, from 0 -> positions of all training samples in the order in which they are trained
Order: TypeAlias = Callable[[int], NDArray[np.int64]]


class Engine(Protocol):
    """Makes trainers. ``max_workers`` limits the threads that may use them at a time (None: no limit), ``names`` are
    the weights that clients exchange, ``metric`` is what its trainers evaluate."""

    max_workers: int | None
    batch_size: int
    optimizer: LocalOptimizer
    layers: tuple[str, ...]
    names: tuple[str, ...]
    metric: Measure

    def trainer(self, user: UserData, stop: threading.Event) -> ClientTrainer[Any]:
        """Return a trainer of one client's data; once ``stop`` is set, training ends with InterruptedRunError."""


def mean_loss(losses: NDArray[np.float32]) -> float:
    """Return the mean over the batches of an epoch, as the reference's device reports it."""
    return float(np.mean(losses, dtype=np.float64))


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Return the mean cross entropy of ``labels`` (samples) under the softmax of ``logits`` (samples x classes); both
    may have a further dimension, of tokens."""
    wide, labels = logits.astype(np.float64).reshape(-1, logits.shape[-1]), labels.reshape(-1)
    wide -= wide.max(axis=1, keepdims=True)
    chosen = wide[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(wide).sum(axis=1)) - chosen))


def local_optimizer(model: LiteModel) -> LocalOptimizer:
    """Return the optimizer of ``model``; one without a name, for a model that cannot be trained."""
    found = optimizer_of(model)
    if found is None:
        return LocalOptimizer(name="")
    momentum = 0.0 if found.momentum is None else found.momentum
    return LocalOptimizer(name=found.name, momentum=momentum, nesterov=found.nesterov, dampening=found.dampening)


def layers_of(model: LiteModel) -> tuple[str, ...]:
    """Return the layers of ``model`` in the order in which it uses them: what their weights' names begin with.

    The weights ``conv1.weight`` and ``conv1.bias`` belong to the layer ``conv1``.
    """
    owners = {tensor.index: name.rpartition(".")[0] for name, tensor in model.parameters.items()}
    used: dict[str, None] = {}
    for node in model.nodes:
        of_weights = [owners[index] for index in node.inputs if index in owners]
        if of_weights and node.op == "Transpose":  # of a weight, at the beginning of the graph
            owners.update(dict.fromkeys(node.outputs, of_weights[0]))
        else:
            used.update(dict.fromkeys(of_weights))
    return tuple(used)


class LiteEngine:
    """Executes the ``.ms`` file. The graph is planned once; each thread has one session for all its clients.

    A client's optimizer state begins anew in each iteration: devices keep none between iterations, as with a freshly
    loaded model file, so that memory does not grow with the clients.
    """

    max_workers: int | None = None

    def __init__(
        self,
        model: LiteModel,
        *,
        training: bool = True,
        metric: MetricName | None = None,
        threads: int = 1,
        stage: Callable[[str], None] | None = None,
    ) -> None:
        """Without ``training`` the engine evaluates and predicts only. ``metric`` None: that of the model's labels.
        ``threads`` is how many train one client together. ``stage`` is told before kernels are compiled."""
        self.model = model
        self._threads = threads
        self._executable = Executable(model, training=training)
        self.label_kind = self._executable.graph.label_kind
        self.metric = chosen_metric(self.label_kind, metric)
        self._local = threading.local()
        if stage is not None:
            programs = self._executable.programs(folded=self._executable.graph.equal_channels)
            missing = uncached_families(program.code for program in programs.all)
            if missing:
                stage(f"compiling kernels of {', '.join(missing)} (once per machine)")
        self.batch_size = self.session().batch_size
        self.optimizer = local_optimizer(model)
        self.layers = layers_of(model)
        self.names = tuple(model.weights)

    def session(self) -> Session:
        """Return the calling thread's session."""
        if not hasattr(self._local, "session"):
            self._local.session = Session(self._executable, threads=self._threads)
        session: Session = self._local.session
        return session

    def second_session(self) -> Session:
        """Return another session of the calling thread, for algorithms that train two models in turn."""
        if not hasattr(self._local, "second"):
            self._local.second = Session(self._executable)
        session: Session = self._local.second
        return session

    def trainer(self, user: UserData, stop: threading.Event) -> ClientTrainer[Any]:
        """Return a trainer of one client's data."""
        return _LiteTrainer(self, user, stop)


class ClientTrainer(ABC, Generic[SamplesT]):
    """A trainer of one client's data: what all engines have in common. ``last_loss`` is that of the last epoch,
    ``class_scores`` are the means of the last evaluation, ``cells`` its :data:`~mindfl.sim.evaluation.Cells`.
    ``metric`` is what is evaluated, ``kind`` what the labels are.

    ``SamplesT`` is the form in which the engine takes images.
    """

    def __init__(
        self,
        batch_size: int,
        user: UserData,
        stop: threading.Event,
        *,
        metric: Measure = ACCURACY,
        kind: LabelKind | None = "classes",
        statistics: Weights,
    ) -> None:
        """``statistics`` are the running ones with which a client begins that does not get them from the server."""
        self.metric = metric
        self._kind = kind
        self._user = user
        self._stop = stop
        self.train_size = user.train.size
        self.eval_size = user.test.size
        self.batch_size = batch_size
        self.last_loss = math.nan
        self.class_scores: NDArray[np.float32] | None = None
        self.cells: Cells | None = None
        self._order: Order | None = None
        self._statistics = statistics
        self._own: dict[str, NDArray[np.float32]] = {}
        self.seed: Callable[[], int] = lambda: 0

    def set_seed(self, seed: Callable[[], int]) -> None:
        """Let each training from now on drop by the seed that ``seed`` returns, where the model has dropout."""
        self.seed = seed

    def load(self, weights: Weights) -> None:
        """Take over ``weights``. Running statistics that are not among them are this client's own."""
        missing = self._statistics.keys() - weights.keys()
        self._own = {name: self._own.get(name, self._statistics[name]) for name in missing}
        self.put({**weights, **self._own})

    @property
    def own(self) -> Weights:
        """The running statistics that stay with this client, as they are after its last training."""
        return self._own

    def begin_with(self, own: Weights) -> None:
        """Begin with running statistics that stayed with this client before."""
        self._own = dict(own)

    def weights(self) -> Weights:
        """Return the current weights, flat, and the running statistics that were loaded with them."""
        return {name: values for name, values in self.current().items() if name not in self._own}

    def set_order(self, order: Order) -> None:
        """Train each epoch from now on in the order that ``order`` returns, not in that of the data."""
        self._order = order

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Train on all samples ``epochs`` times, in order; return the mean loss of the last epoch."""
        self.begin_training(learning_rate)
        samples = self._samples_by_epoch()
        self.last_loss = math.nan
        for epoch in range(epochs):
            self.check_stop()
            losses = self.run_epoch(*samples(epoch))
            report(epoch, losses.tolist())
            self.last_loss = mean_loss(losses)
        if self._own:
            current = self.current()
            self._own = {name: current[name].copy() for name in self._own}
        return self.last_loss

    def _samples_by_epoch(self) -> Callable[[int], tuple[SamplesT, NDArray[Any]]]:
        """Return what gives the training images and labels in the order of an epoch."""
        split, labels, order = self._user.train, _labels(self._user.train), self._order
        if order is None:
            samples = self.images(split), labels
            return lambda epoch: samples

        def ordered(epoch: int) -> tuple[SamplesT, NDArray[Any]]:
            chosen = order(epoch)
            return self.images(split, chosen), labels[chosen]

        return ordered

    def evaluate(self) -> float:
        """Return the metric on the test data: the accuracy is the share of labels whose score is the highest (the
        first, if equal)."""
        if self._kind == "targets":
            return self.loss(self.images(self._user.test), _labels(self._user.test))
        scores, labels = self._test_scores(), _labels(self._user.test)
        self.class_scores = scores.reshape(-1, scores.shape[-1]).mean(axis=0)
        if self.metric != ACCURACY:
            mean = cross_entropy(scores, labels)
            return perplexity(mean) if self.metric.name == "perplexity" else mean
        predicted = scores.argmax(axis=-1)
        self.cells = cells_of(labels, predicted)
        return float(np.mean(predicted == labels))

    def training_loss(self) -> float:
        """Return the mean loss of the present weights on the training samples; nothing is trained."""
        return self.loss(self.images(self._user.train), _labels(self._user.train))

    def loss(self, images: SamplesT, labels: NDArray[Any]) -> float:
        """Return the mean loss of samples; nothing is trained. An engine that trains regressions replaces it."""
        return cross_entropy(self.scores(images), labels)

    def predict(self) -> NDArray[Any]:
        """Return the predicted labels of the test data, or the numbers that a regression predicts; none without any."""
        if not self.eval_size:
            return np.zeros(0, np.int_)
        scores = self._test_scores()
        return scores if self._kind == "targets" else scores.argmax(axis=-1)

    def set_correction(self, correction: Correction | None) -> None:
        """Correct every step of the next trainings. Raises :class:`OptionError` where the engine cannot."""
        raise OptionError("this engine cannot correct its steps", hint="use --engine lite")

    def set_companion(self, training: Training | None) -> None:
        """Train a second model in turn with this one from now on. Raises :class:`OptionError` if it cannot."""
        raise OptionError("this engine cannot train two models in turn", hint="use --engine lite")

    def check_stop(self) -> None:
        """Raise :class:`InterruptedRunError` once the run is to end."""
        if self._stop.is_set():
            raise InterruptedRunError("interrupted")

    def _test_scores(self) -> NDArray[np.float32]:
        return self.scores(self.images(self._user.test))

    @abstractmethod
    def put(self, weights: Weights) -> None:
        """Set weights and running statistics of the calling thread's model."""

    @abstractmethod
    def current(self) -> Weights:
        """Return those of the calling thread's model, flat."""

    @abstractmethod
    def images(self, split: Split, order: NDArray[np.int64] | None = None) -> SamplesT:
        """Return a part's true samples in the form the engine takes; in ``order``, or in that of the data."""

    @abstractmethod
    def begin_training(self, rate: float) -> None:
        """Begin with fresh optimizer state and this learning rate."""

    @abstractmethod
    def run_epoch(self, images: SamplesT, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Train once on all samples and return the loss of each batch."""

    @abstractmethod
    def scores(self, images: SamplesT) -> NDArray[np.float32]:
        """Return the class scores of all images."""


class _LiteTrainer(ClientTrainer[Batches]):
    def __init__(self, engine: LiteEngine, user: UserData, stop: threading.Event) -> None:
        statistics = {name: engine.model.weights[name] for name in engine.model.statistics}
        super().__init__(
            engine.batch_size, user, stop, metric=engine.metric, kind=engine.label_kind, statistics=statistics
        )
        self._engine = engine
        self.companion: Companion | None = None

    def put(self, weights: Weights) -> None:
        self._engine.session().set_weights(weights)

    def current(self) -> Weights:
        return self._engine.session().weight_views()

    def images(self, split: Split, order: NDArray[np.int64] | None = None) -> Batches:
        planes = split.planes()
        return self._engine.session().batches(planes if order is None else planes[order])

    def begin_training(self, rate: float) -> None:
        session = self._engine.session()
        session.reset_optimizer()
        session.set_learning_rate(rate)
        seed = self.seed()
        session.set_seed(seed)
        if self.companion is not None:
            self.companion.begin(rate, seed)

    def set_correction(self, correction: Correction | None) -> None:
        self._engine.session().set_correction(correction)

    def set_companion(self, training: Training | None) -> None:
        engine = self._engine
        self.companion = None if training is None else Companion(engine.session(), engine.second_session(), training)

    def run_epoch(self, images: Batches, labels: NDArray[Any]) -> NDArray[np.float32]:
        if self.companion is not None:
            return self.companion.train(images, labels)
        return self._engine.session().train(images, labels)

    def scores(self, images: Batches) -> NDArray[np.float32]:
        return self._engine.session().predict(images)

    def loss(self, images: Batches, labels: NDArray[Any]) -> float:
        if self._kind == "targets":
            return self._engine.session().loss(images, labels)
        return super().loss(images, labels)


def _labels(split: Split) -> NDArray[Any]:
    return split.labels[: split.size]
