"""Writes a network with given weights as an inference file: MINDIR or ONNX, both written by MindSpore."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ExportError, OptionError
from mindfl.export.graph_mode import call_for, graph_mode, mindspore_errors
from mindfl.export.process import temporary_folder
from mindfl.export.weight_files import load_weights
from mindfl.files import write_atomic
from mindfl.models import Model, ModelSpec, NetworkSizes, import_mindspore, model_spec
from mindfl.models.network_inputs import Input, network_inputs
from mindfl.server.ckpt import message_class

#: names of the inputs, the outputs and the first dimension in an ONNX file
_IMAGES, _LOGITS, _BATCH = "images", "logits", "batch"
_IMAGE_RANK = 3

#: a network, its inputs, the batch (None: any number), a path
Writer = Callable[[Any, tuple[Input, ...], int | None, str], None]


def export_network(
    target: Path,
    form: str,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    source: str,
    model: Model,
    sizes: NetworkSizes,
    batch_size: int | None = None,
) -> None:
    """Write the network ``model`` with ``weights``, which are in MindSpore's order, to ``target``.

    ``sizes`` that are None are the network's own; with ``batch_size`` None it takes any number of samples.
    Raises :class:`OptionError` if the weights, read from ``source``, are not those of the network, and
    :class:`ExportError` if MindSpore fails.
    """
    spec = model_spec(model)
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"batch_size must be at least 1, got {batch_size}")
    content = call_for(spec, _exported, form, spec, spec.sizes(sizes), batch_size, dict(weights), source)
    if form == "onnx" and batch_size is None:
        content = with_symbolic_batch(content, _BATCH)
    write_atomic(target, content)


def _exported(
    form: str,
    spec: ModelSpec,
    sizes: NetworkSizes,
    batch_size: int | None,
    weights: Mapping[str, NDArray[np.float32]],
    source: str,
) -> bytes:
    """Return the file of the network for inference."""
    with graph_mode("CPU"), mindspore_errors():
        network = spec.make(sizes, init=None, seed=0)
        inputs = network_inputs(network, sizes, spec.name)
        load_weights(network, weights, source)
        network.set_train(False)
        with temporary_folder("mindfl-export-") as folder:
            # MindSpore appends a suffix, and refuses paths with spaces or letters beyond ASCII.
            _WRITERS[form](network, inputs, batch_size, os.path.relpath(folder / "network"))
            (file,) = folder.iterdir()
            return file.read_bytes()


def _write_mindir(network: Any, inputs: tuple[Input, ...], batch_size: int | None, path: str) -> None:
    mindspore = import_mindspore()
    tensors = [
        mindspore.Tensor(shape=[batch_size, *each.shape], dtype=getattr(mindspore, each.dtype)) for each in inputs
    ]
    mindspore.export(network, *tensors, file_name=path, file_format="MINDIR")


def _write_onnx(network: Any, inputs: tuple[Input, ...], batch_size: int | None, path: str) -> None:
    mindspore = import_mindspore()
    try:
        from mindspore.onnx import export
    except ImportError:
        raise ExportError(
            f"MindSpore {mindspore.__version__} has no mindspore.onnx", hint="pip install --upgrade mindspore"
        ) from None
    names = [_IMAGES] if len(inputs) == 1 and len(inputs[0].shape) == _IMAGE_RANK else _input_names(network)
    axes = {name: {0: _BATCH} for name in names} if batch_size is None else None
    tensors = [mindspore.Tensor(np.zeros((batch_size or 1, *each.shape), each.dtype)) for each in inputs]
    export(network, *tensors, file_name=path, input_names=names, output_names=[_LOGITS], dynamic_axes=axes)


def _input_names(network: Any) -> list[str]:
    return list(inspect.signature(network.construct).parameters)


_WRITERS = {"mindir": _write_mindir, "onnx": _write_onnx}


_MESSAGES = {
    "Model": ((7, "graph", "Graph", "optional"),),
    "Graph": ((12, "output", "Value", "repeated"),),
    "Value": ((2, "type", "Type", "optional"),),
    "Type": ((1, "tensor", "TensorType", "optional"),),
    "TensorType": ((2, "shape", "Shape", "optional"),),
    "Shape": ((1, "dim", "Dim", "repeated"),),
    "Dim": ((1, "value", "int64", "optional"), (2, "symbol", "string", "optional")),
}


def with_symbolic_batch(content: bytes, symbol: str) -> bytes:
    """Return the ONNX model ``content`` with ``symbol`` as the first dimension of each output."""
    model = _model_class()()
    model.ParseFromString(content)
    for output in model.graph.output:
        batch = output.type.tensor.shape.dim[0]
        batch.ClearField("value")
        batch.symbol = symbol
    changed: bytes = model.SerializeToString()
    return changed


@cache
def _model_class() -> Any:
    return message_class("mindfl.onnx", _MESSAGES, "Model")
