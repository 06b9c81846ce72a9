"""The reference engine: the same training with MindSpore's own operators, on CPU, GPU or Ascend."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.local_optimizer import LocalOptimizer
from mindfl.algorithms.running_statistics import STATISTICS, is_statistic
from mindfl.data import Split, UserData
from mindfl.errors import DataError, OptionError
from mindfl.export.graph_mode import mindspore_errors, mindspore_here, use_graph_mode
from mindfl.export.optimizers import REGRESSIONS, OptimizerSettings, check_predictions, with_loss
from mindfl.export.trained import network_sizes
from mindfl.export.weight_files import load_weights
from mindfl.float_environment import default_float_environment
from mindfl.lite.loss_part import LabelKind
from mindfl.lite.sample_values import whole_numbers
from mindfl.models import Model, NetworkSizes, import_mindspore, mindspore_lock, model_spec
from mindfl.models.network_inputs import Input, network_inputs, tokens_labelled
from mindfl.notices import warn
from mindfl.options.job_options import LossName, MetricName
from mindfl.sim.engines import ClientTrainer, Weights, layers_of
from mindfl.sim.job_data import LABELS_HINT
from mindfl.sim.metrics import chosen_metric
from mindfl.sim.network_model import JobModel, NetworkModel
from mindfl.system import interrupt_held_back

P = ParamSpec("P")
Result = TypeVar("Result")


def _one_at_a_time(method: Callable[P, Result]) -> Callable[P, Result]:
    @wraps(method)
    def locked(*arguments: P.args, **options: P.kwargs) -> Result:
        with mindspore_lock, interrupt_held_back(), default_float_environment(), mindspore_errors():
            return method(*arguments, **options)

    return locked


@dataclass(frozen=True)
class WeightLayout:
    """The weights of a job's model, and how clients exchange them: what the MindSpore engine knows of the model.

    Args:
        sizes: what the network is made for.
        names: the weights that clients exchange; None: those that the network trains, and running statistics.
        layers: layers in the order in which the network uses them; empty: that in which it defines them.
        initial: all weights of the network in MindSpore's order; None: whatever the network begins with.
        to_mindspore: returns weights that clients exchange in MindSpore's order and shapes.
        from_mindspore: returns weights in MindSpore's order as clients exchange them.
    """

    sizes: NetworkSizes
    names: frozenset[str] | None
    layers: tuple[str, ...]
    initial: Weights | None
    to_mindspore: Callable[[Weights], Weights]
    from_mindspore: Callable[[Weights], Weights]


def weight_layout(model: JobModel) -> WeightLayout:
    """Return the layout of a ``.ms`` file, where convolutions are KHWC, or of a network of MindSpore's."""
    if isinstance(model, NetworkModel):
        return WeightLayout(model.sizes, None, (), model.weights, model.to_mindspore, lambda weights: weights)
    names = frozenset(model.weights)
    return WeightLayout(network_sizes(model), names, layers_of(model), None, model.to_mindspore, model.from_mindspore)


class MindSporeEngine:
    """Trains a network with MindSpore; weights come and go as ``layout`` says.

    One thread at a time, whatever job it works for: MindSpore spreads each step over the processors itself. Raises
    :class:`OptionError` where the network's parameters are not those of the model.
    """

    max_workers: int | None = 1

    def __init__(
        self,
        layout: WeightLayout,
        *,
        network: Model,
        optimizer: OptimizerSettings,
        batch_size: int,
        device_target: str,
        loss: LossName = "sparse",
        metric: MetricName | None = None,
    ) -> None:
        """``loss`` "onehot" is the same as "sparse": labels are class numbers here. ``metric`` None: by the loss."""
        self.label_kind: LabelKind = "targets" if loss in REGRESSIONS else "classes"
        self.batch_size = batch_size
        with mindspore_here(), interrupt_held_back(), mindspore_errors():
            self._build(layout, network, optimizer, loss if loss in REGRESSIONS else "sparse", device_target)
        self.metric = chosen_metric(self.label_kind, metric)

    def _build(
        self, layout: WeightLayout, network: Model, optimizer: OptimizerSettings, loss: LossName, device_target: str
    ) -> None:
        mindspore = import_mindspore()
        use_graph_mode(device_target)
        self.layout = layout
        momentum = optimizer.momentum if optimizer.name == "momentum" else 0.0
        self.optimizer = LocalOptimizer(name=optimizer.name, momentum=momentum)
        self._tensor = mindspore.Tensor
        spec, sizes = model_spec(network), layout.sizes
        self.channels = sizes.num_channel or 1
        self._network = spec.make(spec.sizes(sizes), init=None, seed=0)
        if layout.initial is not None:
            load_weights(self._network, layout.initial, "the model")
        self._parameters: Mapping[str, Any] = {p.name: p for p in self._exchanged()}
        if layout.names is not None and self._parameters.keys() != layout.names:
            raise OptionError(f"model {spec.name} has other parameters than the .ms file", hint="use --engine lite")
        self.names = tuple(self._parameters)
        self.layers = layout.layers or tuple(dict.fromkeys(name.rpartition(".")[0] for name in self.names))
        self._takes = network_inputs(self._network, spec.sizes(sizes), spec.name)
        self._pictures = not isinstance(getattr(self._network, "inputs", None), list | tuple)
        self._tokens = tokens_labelled(self._network, spec.name)
        if self._tokens:
            self.label_kind = "tokens"
        if loss in REGRESSIONS:
            count = spec.sizes(sizes).num_class
            check_predictions(self._network, self._takes, count, self.batch_size, spec.name)
        self._loss = with_loss(self._network, loss, len(self._takes), per_token=self._tokens > 0)
        self._optimizer = optimizer.build(self._network.trainable_params())
        self._step = mindspore.nn.TrainOneStepCell(self._loss, self._optimizer)
        self._state = {p.name: p.asnumpy().copy() for p in self._step.get_parameters()}
        self._name = spec.name
        self._moving: list[Any] | None = None
        trained = {p.name for p in self._network.trainable_params()}
        self.statistics = {name: self._state[name].reshape(-1) for name in self.names if name not in trained}

    def _exchanged(self) -> list[Any]:
        """Return the parameters that clients exchange, in the order of the network."""
        trained: list[Any] = self._network.trainable_params()
        names = {parameter.name for parameter in trained} | (self.layout.names or set())
        everything = self._network.get_parameters()
        return [p for p in everything if p.name in names or (self.layout.names is None and is_statistic(p.name))]

    def trainer(self, user: UserData, stop: threading.Event) -> ClientTrainer[Any]:
        """Return a trainer of one client's data."""
        return _MindSporeTrainer(self, user, stop)

    @_one_at_a_time
    def load(self, weights: Weights) -> None:
        """Set the parameters. Others that training changes begin anew: they are those of whoever trained last."""
        for parameter in self._moving or ():
            parameter.set_data(self._tensor(self._state[parameter.name]))
        values = self.layout.to_mindspore(weights)
        for name in weights:
            self._parameters[name].set_data(self._tensor(values[name]))

    @_one_at_a_time
    def begin_training(self, rate: float) -> None:
        """Set the optimizer's state to its initial values, and its learning rate."""
        for parameter in self._step.get_parameters():
            if parameter.name not in self._parameters:
                parameter.set_data(self._tensor(self._state[parameter.name]))
        self._optimizer.learning_rate.set_data(self._tensor(np.float32(rate)))

    @_one_at_a_time
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the parameters flat, as clients exchange them."""
        values = {name: parameter.asnumpy() for name, parameter in self._parameters.items()}
        return {name: value.reshape(-1) for name, value in self.layout.from_mindspore(values).items()}

    @_one_at_a_time
    def step(self, samples: NDArray[Any], labels: NDArray[Any]) -> float:
        """Run one training step and return the mean loss; pictures are NHWC."""
        self._step.set_train()
        loss = float(self._step(*self._inputs(samples), self._tensor(labels)).asnumpy())
        if self._moving is None:
            self._moving = self._found_moving()
        return loss

    def _found_moving(self) -> list[Any]:
        """Return what a step changed beside the parameters that clients exchange; a warning names it."""
        others = [p for p in self._network.get_parameters() if p.name not in self._parameters]
        moving = [p for p in others if not np.array_equal(p.asnumpy(), self._state[p.name], equal_nan=True)]
        names = [p.name for p in moving if not is_statistic(p.name)]
        if names:
            warn(
                f"training changes {', '.join(names)} of {self._name}, which no optimizer trains: clients do not "
                "exchange it, and every training and evaluation begins with its initial value (an array of float32 "
                f"whose name ends in {' or '.join(STATISTICS)} is averaged as BatchNorm's are)"
            )
        return moving

    @_one_at_a_time
    def loss(self, samples: NDArray[Any], labels: NDArray[Any]) -> float:
        """Return the mean loss of a batch; nothing is trained."""
        self._loss.set_train(False)
        return float(self._loss(*self._inputs(samples), self._tensor(labels)).asnumpy())

    @_one_at_a_time
    def logits(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Return the predictions for one batch, such as class scores."""
        self._network.set_train(False)
        scores: NDArray[np.float32] = self._network(*self._inputs(samples)).asnumpy()
        return scores.reshape(len(samples), self._tokens, -1) if self._tokens else scores

    def _inputs(self, samples: NDArray[Any]) -> list[Any]:
        """Return the samples of a batch as the network takes them: pictures NCHW, several inputs one by one."""
        if self._pictures and samples.ndim == 4:
            return [self._tensor(np.ascontiguousarray(samples.transpose(0, 3, 1, 2)))]
        sizes = [math.prod(each.shape) for each in self._takes]
        flat = samples.reshape(len(samples), -1)
        if sum(sizes) != flat.shape[1]:
            wanted = " and ".join(str(each.shape) for each in self._takes)
            raise DataError(f"samples have shape {samples.shape[1:]}, the network takes {wanted}")
        parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        return [
            self._tensor(np.ascontiguousarray(_typed(part, each, place).reshape(-1, *each.shape), each.dtype))
            for place, (part, each) in enumerate(zip(parts, self._takes, strict=True))
        ]


def _typed(part: NDArray[Any], taken: Input, place: int) -> NDArray[Any]:
    """Return an input's values; whole numbers in a table of others are checked, as in the Lite engine."""
    return whole_numbers(part, f"{place + 1} of the network") if taken.dtype == "int32" else part


class _MindSporeTrainer(ClientTrainer[NDArray[Any]]):
    def __init__(self, engine: MindSporeEngine, user: UserData, stop: threading.Event) -> None:
        if engine.label_kind == "classes" and user.train.labels.ndim > 1:
            raise OptionError(
                "the data have a label for each token, the network has one for a sample", hint=LABELS_HINT
            )
        super().__init__(
            engine.batch_size, user, stop, metric=engine.metric, kind=engine.label_kind, statistics=engine.statistics
        )
        self._engine = engine

    def put(self, weights: Weights) -> None:
        self._engine.load(weights)

    def current(self) -> Weights:
        return self._engine.weights()

    def images(self, split: Split, order: NDArray[np.int64] | None = None) -> NDArray[Any]:
        images, channels = split.images(), self._engine.channels
        images = images if order is None else images[order]
        return np.repeat(images, channels, axis=-1) if images.ndim == 4 and images.shape[-1] == 1 < channels else images

    def begin_training(self, rate: float) -> None:
        self._engine.begin_training(rate)

    def run_epoch(self, images: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float32]:
        losses = []
        for batch in self._batches(len(labels)):
            self.check_stop()
            losses.append(self._engine.step(images[batch], labels[batch]))
        return np.array(losses, np.float32)

    def loss(self, images: NDArray[Any], labels: NDArray[Any]) -> float:
        if self._kind != "targets":
            return super().loss(images, labels)
        # Of no fixed batch: MindSpore compiles the rest for its own size.
        starts = range(0, len(images), self.batch_size)
        batches = [slice(start, start + self.batch_size) for start in starts]
        losses = [self._engine.loss(images[batch], labels[batch]) * len(images[batch]) for batch in batches]
        return math.fsum(losses) / len(images)

    def scores(self, images: NDArray[Any]) -> NDArray[np.float32]:
        scores = np.concatenate([self._engine.logits(images[batch]) for batch in self._batches(len(images))])
        return scores[: len(images)]

    def _batches(self, count: int) -> NDArray[np.int_]:
        """Return sample positions, one row a batch; the last is filled by repeating samples from the first on."""
        steps = -(-count // self.batch_size)
        return (np.arange(steps * self.batch_size) % count).reshape(steps, self.batch_size)
