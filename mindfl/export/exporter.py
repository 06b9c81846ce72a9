"""Export of a training graph: forward pass, loss, gradients and optimizer in one MINDIR file."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import OptionError
from mindfl.export.graph_mode import call_for, graph_mode, mindspore_errors
from mindfl.export.optimizers import REGRESSIONS, OptimizerSettings, as_labels, check_predictions, with_loss
from mindfl.export.process import temporary_folder
from mindfl.export.weight_files import load_weights
from mindfl.extensions import module_files
from mindfl.files import PathLike, atomic_path
from mindfl.models import (
    Model,
    ModelSpec,
    NetworkSizes,
    import_mindspore,
    model_spec,
)
from mindfl.models.network_inputs import Input, network_inputs, tokens_labelled
from mindfl.models.networks import missing_size
from mindfl.options import declared_arguments
from mindfl.options.command_options import ExportOptions
from mindfl.options.job_options import DeviceTarget, InitName, LossName, OptimizerName
from mindfl.server.initial import mindspore_weights
from mindfl.system import interrupt_held_back

_SUFFIX = ".mindir"


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Args:
        path: the file.
        losses: of the training steps.
        parameters: shapes of the trainable parameters by name.
        sources: SHA-256 of the Python files that were loaded for a network of the user's, by path.
    """

    path: Path
    losses: tuple[float, ...]
    parameters: dict[str, tuple[int, ...]]
    sources: dict[str, str] = field(default_factory=dict)


@declared_arguments(ExportOptions)
def export_mindir(
    mindir_path: PathLike | None = None,
    *,
    model: Model = "lenet",
    epochs: int = 1,
    batch_size: int = 32,
    optimizer: OptimizerName = "momentum",
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    loss: LossName = "sparse",
    seed: int = 0,
    init: InitName | None = None,
    num_class: int | None = None,
    num_channel: int | None = None,
    image_size: tuple[int, int] | None = None,
    device_target: DeviceTarget = "CPU",
    init_from: PathLike | None = None,
    length: int | None = None,
    vocabulary: int | None = None,
) -> ExportResult:
    """Train ``model`` for ``epochs`` steps on random batches and export its training graph to ``mindir_path``.

    The file holds the *initial* weights and fresh optimizer state, whatever ``epochs`` is. Its inputs are those of the
    network, such as images, float32 [batch_size, channels, height, width], and labels: int32 [batch_size], or
    [batch_size, tokens] where the network states ``labels = (tokens,)``, or with other losses float32 [batch_size,
    classes]; its output is the mean loss. It is MindSpore's own current MINDIR
    version; :func:`mindfl.convert.convert_model` rewrites it if needed.

    Args:
        mindir_path: target; default: the network's name, as ``lenet_train.mindir``. ``.mindir`` is appended if missing,
            folders are created, an existing file is replaced.
        model: the network: a name in :data:`mindfl.models.MODELS`, perhaps with settings (``mobilenet_v2:width=0.5``),
            ``file.py:Class``, or a class or function that makes a MindSpore cell (:func:`mindfl.models.model_spec`).
        epochs: number of training steps, one random batch each, at least 1.
        batch_size: samples per batch; fixed in the exported graph.
        optimizer: ``"momentum"``, ``"sgd"``, ``"adam"`` or ``"adam_weight_decay"``.
        learning_rate: step size, > 0.
        momentum: of the momentum optimizer, 0 <= momentum < 1; the others have none.
        weight_decay: L2 penalty, >= 0: the optimizer adds so much of a weight to its gradient. With
            ``"adam_weight_decay"`` each step subtracts learning rate x decay x weight instead, as MindSpore's
            AdamWeightDecay does; weights with ``beta`` or ``gamma`` in their names have none.
        loss: softmax cross entropy of labels that are class numbers (``"sparse"``) or one-hot (``"onehot"``, the form
            that the demo client of MindSpore Federated 0.1.0 writes); of a regression the mean squared error
            (``"mse"``), or the binary cross entropy of logits (``"bce"``).
        seed: starts the generators of the initial weights and of the batches.
        init: initial weights (:func:`mindfl.models.initializers.initializer`); default: ``"lecun"``, or what a network
            of the user's own sets.
        num_class: outputs; default: the model's own.
        num_channel: image channels; default: the model's own.
        image_size: height and width of the images; default: the model's own.
        device_target: ``"CPU"``, ``"GPU"`` or ``"Ascend"``, as far as the installed MindSpore has it.
        init_from: file with the initial weights in MindSpore's order, instead of those that ``init`` names: ``.ckpt``,
            ``.npz``, ``.safetensors`` or ``.mindir``; or a ``.ms``, whose order is known. State of an optimizer in it
            is left out.
        length: tokens of a text, for networks that take texts; default: the model's own.
        vocabulary: number of different tokens; likewise.

    Returns:
        The file, the losses of the training steps, and the shapes of the trainable parameters by name.

    Raises:
        OptionError: an argument has no usable value, or ``init_from`` lacks a parameter of the network, has another, or
            one of another shape.
        ModelFormatError: ``init_from`` is damaged, or no file of weights.
        ExportError: MindSpore is missing, lacks the device, or failed.
        StorageError: the file cannot be written; nothing is left of it.

    Example:
        >>> export_mindir("own.mindir", num_class=10).path
        PosixPath('own.mindir')
    """
    spec = model_spec(model)
    settings = OptimizerSettings(optimizer, learning_rate, momentum, weight_decay)
    weights = None if init_from is None else mindspore_weights(init_from)
    if weights is not None and init is not None:
        raise OptionError(f"init {init} and init_from both give the initial weights", hint="leave one of them out")
    given = NetworkSizes(
        num_class=num_class, num_channel=num_channel, image_size=image_size, length=length, vocabulary=vocabulary
    )
    network = _Network(
        spec,
        spec.sizes(given),
        settings,
        loss=loss,
        batch_size=batch_size,
        init=init,
        seed=seed,
        weights=weights,
        source=str(init_from),
    )
    with atomic_path(target := _with_suffix(spec.file_name if mindir_path is None else mindir_path)) as temporary:
        content, losses, shapes, sources = call_for(spec, _train_and_export, network, epochs, device_target)
        temporary.write_bytes(content)
    return ExportResult(target, losses, shapes, sources)


def _with_suffix(path: PathLike) -> Path:
    target = Path(path)
    if not target.name or target.is_dir():
        raise OptionError(f"{str(target)!r} does not name a file", hint="such as ms/net.mindir")
    return target if target.name.endswith(_SUFFIX) else target.with_name(target.name + _SUFFIX)


@dataclass(frozen=True)
class _Network:
    """A network with its sizes, initial weights, loss and optimizer.

    ``weights`` (float32 by name, in MindSpore's order, from the file ``source``) take precedence over ``init``.
    """

    spec: ModelSpec
    sizes: NetworkSizes
    optimizer: OptimizerSettings
    loss: LossName
    batch_size: int
    init: str | None
    seed: int
    weights: dict[str, NDArray[np.float32]] | None
    source: str

    def build(self) -> Any:
        """Return the MindSpore cell."""
        network = self.spec.make(self.sizes, init=self.init, seed=self.seed)
        if self.weights is not None:
            load_weights(network, self.weights, self.source)
        return network

    def tokens_labelled(self, cell: Any) -> int:
        """Return the number of labels of a sample; 0: one."""
        tokens = tokens_labelled(cell, self.spec.name)
        if tokens and self.loss != "sparse":
            raise OptionError(
                f"--loss {self.loss} does not fit: model {self.spec.name} has a label for each token",
                hint="--loss sparse takes the class number of each token",
            )
        return tokens

    def random_batches(self, inputs: Iterable[Input], tokens: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield values of the inputs, and labels in the form that the loss takes, endlessly."""
        generator = np.random.default_rng((self.seed, 1))
        if self.sizes.num_class is None and self.loss != "sparse":
            raise missing_size(self.spec.name, "num_class")
        classes = self.sizes.num_class or 1
        while True:
            samples = [each.random(self.batch_size, generator) for each in inputs]
            shape = (self.batch_size, tokens) if tokens else self.batch_size
            labels = generator.integers(0, classes, shape, np.int32)
            yield *samples, as_labels(labels, classes, self.loss)


def _train_and_export(
    network: _Network, epochs: int, device_target: str
) -> tuple[bytes, tuple[float, ...], dict[str, tuple[int, ...]], dict[str, str]]:
    """Return the exported graph, the losses, the parameters' shapes, and the digests of loaded Python files."""
    with graph_mode(device_target), mindspore_errors():
        before = set(sys.modules)
        with interrupt_held_back():
            cell = network.build()
            sources = module_files(set(sys.modules) - before) if network.spec.by_name else {}
            inputs = network_inputs(cell, network.sizes, network.spec.name)
            tokens = network.tokens_labelled(cell)
            if network.loss in REGRESSIONS:
                check_predictions(cell, inputs, network.sizes.num_class, network.batch_size, network.spec.name)
            loss = with_loss(cell, network.loss, len(inputs), per_token=tokens > 0)
            trainer = _Trainer(loss, network.optimizer.build(cell.trainable_params()))
        batches = itertools.islice(network.random_batches(inputs, tokens), epochs)
        steps = [trainer.train_and_export(batch) for batch in batches]
    shapes = {parameter.name: tuple(parameter.shape) for parameter in cell.trainable_params()}
    return steps[-1][1], tuple(loss for loss, _ in steps), shapes, sources


class _Trainer:
    """A network with loss and optimizer, and the initial values of all its parameters."""

    def __init__(self, loss: Any, optimizer: Any) -> None:
        self._cell = import_mindspore().nn.TrainOneStepCell(loss, optimizer)
        self._cell.set_train()
        self._initial = self._values()

    @interrupt_held_back()
    def train_and_export(self, batch: tuple[NDArray[Any], ...]) -> tuple[float, bytes]:
        """Take one training step; return the loss, and the graph with its initial values."""
        tensor = import_mindspore().Tensor
        inputs = [tensor(array) for array in batch]
        loss = float(self._cell(*inputs).asnumpy())
        trained = self._values()
        # The converter turns convolution weights from KCHW to KHWC but not their optimizer state: on the device state
        # other than zero would be applied to the wrong weights. And clients start from the network that the seed gives.
        self._assign(self._initial)
        content = _exported(self._cell, inputs)
        self._assign(trained)
        return loss, content

    def _values(self) -> dict[str, NDArray[Any]]:
        return {parameter.name: parameter.asnumpy().copy() for parameter in self._cell.get_parameters()}

    def _assign(self, values: dict[str, NDArray[Any]]) -> None:
        tensor = import_mindspore().Tensor
        for parameter in self._cell.get_parameters():
            parameter.set_data(tensor(values[parameter.name]))


def _exported(cell: Any, inputs: list[Any]) -> bytes:
    with temporary_folder("mindfl-export") as folder:
        # MindSpore appends a suffix, makes its file read-only, and refuses paths with spaces or letters beyond ASCII.
        file = Path(os.path.relpath(folder / ("graph" + _SUFFIX)))
        import_mindspore().export(cell, *inputs, file_name=str(file), file_format="MINDIR")
        return file.read_bytes()
