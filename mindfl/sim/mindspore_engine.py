"""The reference engine: the same training with MindSpore's own operators, on CPU, GPU or Ascend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.data import Split, UserData
from mindfl.errors import OptionError
from mindfl.export.graph_mode import mindspore_errors, mindspore_here, use_graph_mode
from mindfl.export.optimizers import OptimizerSettings, with_loss
from mindfl.export.trained import network_sizes
from mindfl.lite import LiteModel
from mindfl.models import Model, import_mindspore, mindspore_lock, model_spec
from mindfl.sim.engines import ClientTrainer, Weights, layers_of, local_optimizer
from mindfl.system import interrupt_held_back

P = ParamSpec("P")
Result = TypeVar("Result")


def _one_at_a_time(method: Callable[P, Result]) -> Callable[P, Result]:
    @wraps(method)
    def locked(*arguments: P.args, **options: P.kwargs) -> Result:
        with mindspore_lock, interrupt_held_back():
            return method(*arguments, **options)

    return locked


class MindSporeEngine:
    """Trains a network with MindSpore; weights come and go in the layout of the ``.ms`` file (convolutions KHWC).

    One thread at a time, whatever job it works for: MindSpore spreads each step over the processors itself. Raises
    :class:`OptionError` where the network's parameters are not those of the ``.ms`` file.
    """

    max_workers: int | None = 1

    def __init__(
        self, model: LiteModel, *, network: Model, optimizer: OptimizerSettings, batch_size: int, device_target: str
    ) -> None:
        with mindspore_here(), interrupt_held_back(), mindspore_errors():
            self._build(model, network, optimizer, batch_size, device_target)

    def _build(
        self, model: LiteModel, network: Model, optimizer: OptimizerSettings, batch_size: int, device_target: str
    ) -> None:
        mindspore = import_mindspore()
        use_graph_mode(device_target)
        self.model = model
        self.batch_size = batch_size
        self.optimizer = local_optimizer(model)
        self.layers = layers_of(model)
        self._tensor = mindspore.Tensor
        spec, sizes = model_spec(network), network_sizes(model)
        self.channels = sizes.num_channel or 1
        self._network = spec.make(spec.sizes(sizes), init=None, seed=0)
        loss = with_loss(self._network, "sparse")  # a one-hot loss is the same: labels are class numbers here
        self._optimizer = optimizer.build(self._network.trainable_params())
        self._step = mindspore.nn.TrainOneStepCell(loss, self._optimizer)
        self._step.set_train()
        self._parameters: Mapping[str, Any] = {p.name: p for p in self._network.trainable_params()}
        if self._parameters.keys() != model.parameters.keys():
            raise OptionError(f"model {spec.name} has other parameters than the .ms file", hint="use --engine lite")
        self._state = {p.name: p.asnumpy().copy() for p in self._step.get_parameters()}

    def trainer(self, user: UserData, stop: threading.Event) -> ClientTrainer[Any]:
        """Return a trainer of one client's data."""
        return _MindSporeTrainer(self, user, stop)

    @_one_at_a_time
    def load(self, weights: Weights) -> None:
        """Set the parameters."""
        values = self.model.to_mindspore(weights)
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
        """Return the parameters flat, in the ``.ms`` layout."""
        values = {name: self._parameters[name].asnumpy() for name in self.model.parameters}
        return {name: value.reshape(-1) for name, value in self.model.from_mindspore(values).items()}

    @_one_at_a_time
    def step(self, images: NDArray[np.float32], labels: NDArray[np.int32]) -> float:
        """Run one training step on NHWC images and return the mean loss."""
        return float(self._step(self._input(images), self._tensor(labels)).asnumpy())

    @_one_at_a_time
    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the class scores of one batch of NHWC images."""
        scores: NDArray[np.float32] = self._network(self._input(images)).asnumpy()
        return scores

    def _input(self, images: NDArray[np.float32]) -> Any:
        return self._tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


class _MindSporeTrainer(ClientTrainer[NDArray[np.float32]]):
    def __init__(self, engine: MindSporeEngine, user: UserData, stop: threading.Event) -> None:
        super().__init__(engine.batch_size, user, stop)
        self._engine = engine

    def load(self, weights: Weights) -> None:
        self._engine.load(weights)

    def weights(self) -> Weights:
        return self._engine.weights()

    def images(self, split: Split, order: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        images, channels = split.images(), self._engine.channels
        images = images if order is None else images[order]
        return np.repeat(images, channels, axis=-1) if images.shape[-1] == 1 < channels else images

    def begin_training(self, rate: float) -> None:
        self._engine.begin_training(rate)

    def run_epoch(self, images: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float32]:
        losses = []
        for batch in self._batches(len(labels)):
            self.check_stop()
            losses.append(self._engine.step(images[batch], labels[batch]))
        return np.array(losses, np.float32)

    def scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.concatenate([self._engine.logits(images[batch]) for batch in self._batches(len(images))])
        return scores[: len(images)]

    def _batches(self, count: int) -> NDArray[np.int_]:
        """Return sample positions, one row a batch; the last is filled by repeating samples from the first on."""
        steps = -(-count // self.batch_size)
        return (np.arange(steps * self.batch_size) % count).reshape(steps, self.batch_size)
