"""The engine of a job, and trainers that exchange only some weights, or hold weights without executing the model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.client_algorithm import with_algorithm
from mindfl.algorithms.naming import make_algorithm
from mindfl.client import EpochReport, Trainer
from mindfl.data import UserData
from mindfl.errors import ModelFormatError
from mindfl.lite import LiteModel
from mindfl.lite.ops.optimizer import optimizer_of
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, LiteEngine, Weights
from mindfl.sim.network_model import JobModel
from mindfl.system import startable_threads

_HINT = "correct --train_weight_name"


def exchanged_weights(weights: Weights, names: Sequence[str], where: str) -> Mapping[str, NDArray[np.float32]]:
    """Return those of ``weights`` that are named; raise :class:`ModelFormatError` where ``where`` lacks one."""
    missing = [name for name in names if name not in weights]
    if missing:
        raise ModelFormatError(f"{where} has no weight {missing[0]}", hint=_HINT)
    return {name: weights[name] for name in names}


class PartialTrainer:
    """A trainer that exchanges only some of its weights; the others begin every iteration as the file holds them.

    Running statistics that are not exchanged are the client's own.
    """

    def __init__(self, trainer: Trainer, names: Sequence[str], model: JobModel) -> None:
        self._trainer = trainer
        self._names = names
        kept = {*names, *(model.statistics if isinstance(model, LiteModel) else ())}
        self._others = {name: values for name, values in model.weights.items() if name not in kept}

    @property
    def train_size(self) -> int:
        """Training samples."""
        return self._trainer.train_size

    @property
    def eval_size(self) -> int:
        """Test samples."""
        return self._trainer.eval_size

    @property
    def batch_size(self) -> int:
        """Samples per training step."""
        return self._trainer.batch_size

    def load(self, weights: Weights) -> None:
        """Take over the chosen ones of ``weights``."""
        self._trainer.load({**self._others, **exchanged_weights(weights, self._names, "the server's model")})

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Train all weights."""
        return self._trainer.train(epochs, learning_rate, report)

    @property
    def class_scores(self) -> NDArray[np.float32] | None:
        """Mean score of each class in the last evaluation."""
        return self._trainer.class_scores

    def evaluate(self) -> float:
        """Return the accuracy on the test samples."""
        return self._trainer.evaluate()

    def weights(self) -> Weights:
        """Return the chosen weights."""
        return exchanged_weights(self._trainer.weights(), self._names, "the model file")

    def predict(self) -> NDArray[np.int_]:
        """Return the predicted label of each test sample."""
        return self._trainer.predict()

    def __getattr__(self, name: str) -> Any:
        """Return further attributes of the trainer, such as its last loss."""
        return getattr(self._trainer, name)


class PartialEngine:
    """An engine whose trainers exchange only some of their weights."""

    def __init__(self, engine: Engine, names: Sequence[str], model: LiteModel) -> None:
        self._engine = engine
        self.names = tuple(names)
        self._model = model
        self.max_workers = engine.max_workers
        self.batch_size = engine.batch_size
        self.optimizer = engine.optimizer
        self.layers = engine.layers
        self.metric = engine.metric

    def trainer(self, user: UserData, stop: threading.Event) -> Any:
        """Return a trainer of one client's data."""
        return PartialTrainer(self._engine.trainer(user, stop), self.names, self._model)


def job_engine(config: JobConfig, model: JobModel, clients: int, stage: Callable[[str], None]) -> Engine:
    """Return the engine of a job's simulated clients, with the algorithm's part; ``stage`` is told of a long start.

    ``clients`` is their number, which the algorithm counts with: it is below ``client_num`` where data are missing.
    """
    return with_algorithm(_plain_engine(config, model, clients, stage), make_algorithm(config.algorithm), clients)


def threads_of_a_client(config: JobConfig, clients: int) -> int:
    """Return how many threads train a client together: several where there are fewer clients than workers."""
    each = config.threads // min(config.cohort, clients)
    return startable_threads(each) if each > 1 else 1


def _plain_engine(config: JobConfig, model: JobModel, clients: int, stage: Callable[[str], None]) -> Engine:
    if isinstance(model, LiteModel) and config.client_side.engine.executes_files:
        from mindfl.lite.kernels import is_cached

        if not is_cached():
            stage("compiling the device runtime (once per machine, about a quarter of a minute)")
        threads = threads_of_a_client(config, clients)
        engine = LiteEngine(model, metric=config.metric, threads=threads, stage=stage)
        return engine if config.train_weights is None else PartialEngine(engine, config.train_weights, model)
    return mindspore_engine(config, model)


def mindspore_engine(config: JobConfig, model: JobModel) -> Engine:
    """Return the engine that trains ``model`` with MindSpore, and evaluates and predicts with it."""
    from mindfl.export.optimizers import OptimizerSettings
    from mindfl.sim.mindspore_engine import MindSporeEngine, weight_layout

    network, decay = config.network, config.network.weight_decay
    if isinstance(model, LiteModel):
        known = optimizer_of(model)
        assert known is not None, "the job has checked that the model trains"
        decay = known.weight_decay
    return MindSporeEngine(
        weight_layout(model),
        network=network.model,
        optimizer=OptimizerSettings(network.optimizer, config.rate, network.momentum, decay),
        batch_size=network.batch_size,
        device_target=config.device_target,
        loss=network.loss,
        metric=config.metric,
    )


_WEIGHTS_ONLY = "this model was opened for its weights only"


class WeightsTrainer:
    """A :class:`~mindfl.client.Trainer` that holds the weights of a model file and cannot execute it."""

    def __init__(self, model: JobModel, user: UserData) -> None:
        self.train_size = user.train.size
        self.eval_size = user.test.size
        self.batch_size = batch_of(model) if isinstance(model, LiteModel) else 1
        self.last_loss = math.nan
        self.class_scores: NDArray[np.float32] | None = None
        self._weights = {name: values.reshape(-1) for name, values in model.weights.items()}

    def load(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over ``weights``. Raises :class:`ModelFormatError` for one that the file lacks; then none is changed."""
        for name, values in weights.items():
            if name not in self._weights or self._weights[name].size != values.size:
                raise ModelFormatError(f"the model has no parameter {name} of {values.size} elements")
        self._weights |= {name: values.reshape(-1).copy() for name, values in weights.items()}

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return the weights, flat."""
        return self._weights

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Refuse to train."""
        raise ModelFormatError(_WEIGHTS_ONLY)

    def evaluate(self) -> float:
        """Refuse to evaluate."""
        raise ModelFormatError(_WEIGHTS_ONLY)

    def predict(self) -> NDArray[np.int_]:
        """Refuse to predict."""
        raise ModelFormatError(_WEIGHTS_ONLY)


def batch_of(model: LiteModel) -> int:
    """Return the first dimension of the model's largest input: its batch size; 1 where no input has dimensions."""
    inputs = [model.tensors[index] for index in model.inputs if model.tensors[index].dims]
    return max(inputs, key=lambda tensor: tensor.size).dims[0] if inputs else 1
