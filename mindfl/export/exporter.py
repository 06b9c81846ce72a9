"""Export of a training graph: forward pass, loss, gradients and optimizer in one MINDIR file."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ExportError, MindflError, OptionError, StorageError
from mindfl.export.optimizers import OptimizerSettings
from mindfl.files import PathLike, atomic_path
from mindfl.models import ModelSpec, import_mindspore, interrupt_held_back, model_spec
from mindfl.spelling import known_keywords

_SUFFIX = ".mindir"


@dataclass(frozen=True)
class ExportResult:
    """What was exported: the file, the losses of the training steps, and the trainable parameters' shapes by name."""

    path: Path
    losses: tuple[float, ...]
    parameters: dict[str, tuple[int, ...]]


@known_keywords
def export_mindir(
    mindir_path: PathLike,
    *,
    model: str = "lenet",
    epochs: int = 1,
    batch_size: int = 32,
    optimizer: str = "momentum",
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    init: str = "lecun",
    num_class: int | None = None,
    num_channel: int | None = None,
    device_target: str = "CPU",
) -> ExportResult:
    """Train ``model`` for ``epochs`` steps on random batches and export its training graph to ``mindir_path``.

    The file holds the *initial* weights and fresh optimizer state, whatever ``epochs`` is. Its inputs are images,
    float32 [batch_size, channels, height, width], and labels, int32 [batch_size]; its output is the mean loss. It is
    MindSpore's own current MINDIR version; :func:`mindfl.convert.convert_model` rewrites it where needed.

    Args:
        mindir_path: target; ``.mindir`` is appended if missing, folders are created, an existing file is replaced.
        model: name in :data:`mindfl.models.MODELS`.
        epochs: number of training steps, one random batch each, at least 1.
        batch_size: samples per batch; fixed in the exported graph.
        optimizer: ``"momentum"``, ``"sgd"`` or ``"adam"``.
        learning_rate: step size, > 0.
        momentum: of the momentum optimizer, 0 <= momentum < 1; the others have none.
        weight_decay: L2 penalty, >= 0.
        seed: starts the generators of the initial weights and of the batches.
        init: initial weights (:func:`mindfl.models.initializers.initializer`).
        num_class: outputs; default: the model's own.
        num_channel: image channels; default: the model's own.
        device_target: ``"CPU"``, or another device that the installed MindSpore has.

    Raises:
        OptionError: an argument has no usable value.
        ExportError: MindSpore is missing, lacks the device, or failed.
        StorageError: the file cannot be written; nothing is left of it.
    """
    spec = model_spec(model)
    settings = OptimizerSettings(optimizer, learning_rate, momentum, weight_decay)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise OptionError(f"{name} must be at least 1, got {value}")
    classes = spec.num_class if num_class is None else num_class
    channels = spec.num_channel if num_channel is None else num_channel
    batches = _random_batches(spec, batch_size, channels, classes, seed)
    with _graph_mode(device_target), _mindspore_errors(), atomic_path(target := _with_suffix(mindir_path)) as temporary:
        with interrupt_held_back():
            network = spec.build(classes, channels, init=init, seed=seed)
            trainer = _Trainer(network, settings)
        losses = [trainer.train_and_export(next(batches), temporary) for _ in range(epochs)]
    shapes = {parameter.name: tuple(parameter.shape) for parameter in network.trainable_params()}
    return ExportResult(target, tuple(losses), shapes)


def _with_suffix(path: PathLike) -> Path:
    target = Path(path)
    if not target.name or target.is_dir():
        raise OptionError(f"{str(target)!r} does not name a file", hint="such as ms/lenet/lenet_train.mindir")
    return target if target.name.endswith(_SUFFIX) else target.with_name(target.name + _SUFFIX)


def _random_batches(
    spec: ModelSpec, batch_size: int, channels: int, classes: int, seed: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    generator = np.random.default_rng((seed, 1))
    while True:
        images = generator.random(spec.input_shape(batch_size, channels), np.float32)
        yield images, generator.integers(0, classes, batch_size, np.int32)


class _Trainer:
    """A network with loss and optimizer, and the values of all its parameters as they were before the first step."""

    def __init__(self, network: Any, settings: OptimizerSettings) -> None:
        nn = import_mindspore().nn
        loss = nn.WithLossCell(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
        self._cell = nn.TrainOneStepCell(loss, settings.build(network.trainable_params()))
        self._cell.set_train()
        self._initial = self._values()

    @interrupt_held_back()
    def train_and_export(self, batch: tuple[NDArray[Any], ...], path: Path) -> float:
        """Take one training step, leave the graph with its initial values in ``path`` and return the loss."""
        tensor = import_mindspore().Tensor
        inputs = [tensor(array) for array in batch]
        loss = float(self._cell(*inputs).asnumpy())
        trained = self._values()
        # The converter turns convolution weights from KCHW to KHWC but leaves their optimizer state as it is, so state
        # other than zero would be applied to the wrong weights on the device; and clients shall start from the same,
        # untrained, network that the seed names.
        self._assign(self._initial)
        path.write_bytes(_exported(self._cell, inputs))
        self._assign(trained)
        return loss

    def _values(self) -> dict[str, NDArray[Any]]:
        return {parameter.name: parameter.asnumpy().copy() for parameter in self._cell.get_parameters()}

    def _assign(self, values: dict[str, NDArray[Any]]) -> None:
        tensor = import_mindspore().Tensor
        for parameter in self._cell.get_parameters():
            parameter.set_data(tensor(values[parameter.name]))


def _exported(cell: Any, inputs: list[Any]) -> bytes:
    # MindSpore refuses paths with spaces or letters beyond ASCII, appends a suffix and makes its file read-only.
    try:
        with tempfile.TemporaryDirectory(prefix="mindfl-export-") as folder:
            file = Path(folder, "graph" + _SUFFIX)
            import_mindspore().export(cell, *inputs, file_name=str(file), file_format="MINDIR")
            return file.read_bytes()
    except OSError as error:
        raise StorageError.from_os_error(error, "use the temporary folder", tempfile.gettempdir()) from None


@contextmanager
def _graph_mode(device_target: str) -> Iterator[None]:
    """Export needs MindSpore's graph mode; the caller's mode comes back afterwards."""
    mindspore = import_mindspore()
    previous = mindspore.get_context("mode")
    logging.disable()  # MindSpore logs about each missing GPU library; the error says it
    try:
        mindspore.set_device(device_target)
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ExportError(
            f"device target {device_target!r} cannot be used: {_first_sentence(error)}", hint="CPU always works"
        ) from None
    finally:
        logging.disable(logging.NOTSET)
    try:
        yield
    finally:
        mindspore.set_context(mode=previous)


@contextmanager
def _mindspore_errors() -> Iterator[None]:
    try:
        yield
    except (MindflError, OSError):
        raise
    except Exception as error:
        raise ExportError(f"MindSpore failed: {_first_sentence(error)}") from error


def _first_sentence(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.partition(". ")[0]
