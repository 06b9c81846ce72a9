"""Exports trained weights to MindSpore: a device's ``.ms`` becomes a checkpoint, arrays, or an inference network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError, OptionError
from mindfl.export.weight_files import ARRAY_FORMATS, target_format
from mindfl.files import PathLike, write_atomic
from mindfl.lite import LiteModel
from mindfl.lite.model_graph import Graph
from mindfl.models import Model, NetworkSizes
from mindfl.options import declared_arguments
from mindfl.options.command_options import TrainedOptions, WeightFormat
from mindfl.server.initial import initial_weights, mindspore_weights

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class WrittenWeights:
    """Result: the file, its format, and the shapes of the weights in MindSpore's order, by name."""

    path: Path
    format: str
    parameters: dict[str, tuple[int, ...]]


@declared_arguments(TrainedOptions)
def export_trained(
    source: PathLike,
    output: PathLike,
    *,
    format: WeightFormat | None = None,
    model: Model = "lenet",
    device_model: PathLike | None = None,
    num_class: int | None = None,
    num_channel: int | None = None,
    image_size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    length: int | None = None,
    vocabulary: int | None = None,
) -> WrittenWeights:
    """Write the weights in ``source`` to ``output`` in MindSpore's order, convolutions [out, in, height, width].

    ``ckpt``, ``npz`` and ``safetensors`` hold the weights alone; ``mindir`` and ``onnx`` hold a network for inference
    too: from its inputs, such as float32 images [batch, channels, height, width], to logits [batch, classes].

    Args:
        source: a ``.ms`` file, trained or not, of which all parameters of the network are taken; or a file of weights,
            as ``init_from`` of :func:`export_mindir` takes it.
        output: target; the suffix of the format is appended if missing, an existing file is replaced.
        format: ``"ckpt"``, ``"npz"``, ``"safetensors"``, ``"mindir"`` or ``"onnx"``. Default: what the suffix says.
        model: the network, for ``mindir`` and ``onnx``, as in :func:`export_mindir`.
        device_model: a ``.ms`` file of the job. ``source`` is then a file of a server, such as the checkpoints of
            MindSpore Federated's, with the weights of that model in the order of devices.
        num_class: outputs of the network; default: those of the ``.ms``, else the network's own.
        num_channel: image channels of the network; likewise.
        image_size: height and width of the images; likewise.
        batch_size: samples that the network takes at once, for one that cannot take any number.
        length: tokens of a text, for a network that takes texts; likewise.
        vocabulary: number of different tokens; likewise.

    Returns:
        The file that was written and its format.

    Raises:
        OptionError: an argument has no usable value, or the weights are not those of the network.
        ModelFormatError: ``source`` is damaged, or does not hold the weights of ``device_model``.
        ExportError: MindSpore failed, or is missing, for ``mindir`` and ``onnx``.
        StorageError: a file cannot be read or written; nothing is left of it.

    Example:
        >>> export_trained("run/ms/lenet_train_trained.ms", "lenet.ckpt").path
        PosixPath('lenet.ckpt')
    """
    target, form = target_format(output, format)
    graph = _graph(source if device_model is None else device_model)
    weights = mindspore_weights(source) if device_model is None else _of_devices(source, graph, device_model)
    sizes = NetworkSizes(
        num_class=num_class, num_channel=num_channel, image_size=image_size, length=length, vocabulary=vocabulary
    )
    return save_weights(
        target, form, weights, source=str(source), model=model, graph=graph, sizes=sizes, batch_size=batch_size
    )


def save_weights(
    target: Path,
    form: str,
    weights: Weights,
    *,
    source: str,
    model: Model,
    graph: LiteModel | None = None,
    sizes: NetworkSizes | None = None,
    batch_size: int | None = None,
) -> WrittenWeights:
    """Write ``weights``, which are in MindSpore's order, as :func:`export_trained` does; errors call them ``source``.

    Sizes that ``sizes`` does not give are read from the ``.ms`` model ``graph``.
    """
    if form in ARRAY_FORMATS:
        write_atomic(target, ARRAY_FORMATS[form](weights))
    else:
        from mindfl.export.network import export_network

        found = NetworkSizes() if graph is None else network_sizes(graph)
        given = {name: value for name, value in vars(sizes or found).items() if value is not None}
        export_network(
            target,
            form,
            weights,
            source=source,
            model=model,
            sizes=replace(found, **given),
            batch_size=batch_size,
        )
    return WrittenWeights(target, form, {name: value.shape for name, value in weights.items()})


def _graph(path: PathLike) -> LiteModel | None:
    """Return the ``.ms`` model ``path``; None if it is another file or missing."""
    with suppress(ModelFormatError):
        return LiteModel.load(path)
    return None


def _of_devices(source: PathLike, graph: LiteModel | None, device_model: PathLike) -> Weights:
    """Return the weights in ``source``, a file in the order of the device model ``graph``, in MindSpore's order."""
    if graph is None:
        raise ModelFormatError(f"{device_model} is not a MindSpore Lite model", hint="give the .ms file of the devices")
    weights = initial_weights(source, kchw=False)
    for name, value in sorted(weights.items()):
        tensor = graph.parameters.get(name)
        if tensor is not None and value.ndim == 4 and value.shape != tensor.dims:
            raise OptionError(
                f"{source} is not in the order of devices: {name} has shape {value.shape}, theirs {tensor.dims}",
                hint="leave --device_model out",
            )
    try:
        return graph.to_mindspore(weights)
    except ModelFormatError as error:
        raise ModelFormatError(f"{source} does not hold the weights of {device_model}: {error}") from None


def network_sizes(model: LiteModel) -> NetworkSizes:
    """Return the sizes of the network in a ``.ms``, as far as the runtime understands it."""
    try:
        graph = Graph(model)
        first, classes = graph.samples[0], graph.classes
    except ModelFormatError:
        return NetworkSizes()
    if first.dtype == np.int32:
        length = first.dims[-1] if len(first.dims) > 1 else None
        return NetworkSizes(num_class=classes, length=length, vocabulary=graph.vocabularies.get(first.index))
    if len(first.dims) != 4:
        return NetworkSizes(num_class=classes)
    return NetworkSizes(num_class=classes, num_channel=first.dims[3], image_size=(first.dims[1], first.dims[2]))
