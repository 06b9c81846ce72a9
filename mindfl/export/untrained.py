"""The initial weights of a network of MindSpore, without a training graph."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindfl.export.graph_mode import call_for, graph_mode, mindspore_errors
from mindfl.export.weight_files import load_weights
from mindfl.extensions import module_files
from mindfl.models import Model, ModelSpec, NetworkSizes, model_spec
from mindfl.server.initial import mindspore_weights
from mindfl.system import interrupt_held_back

Arrays = dict[str, NDArray[np.float32]]


def untrained_weights(
    model: Model, sizes: NetworkSizes, *, init: str | None, seed: int, init_from: Path | None, device_target: str
) -> tuple[Arrays, dict[str, str]]:
    """Return the initial weights of a network, and the SHA-256 of the user's code that was loaded for it, by file.

    They are all its float32 parameters, trained or not, in MindSpore's order: those that :func:`export_mindir` writes
    with the same arguments. Raises as :func:`export_mindir` does.
    """
    spec = model_spec(model)
    weights = None if init_from is None else mindspore_weights(init_from)
    return call_for(spec, _built, spec, sizes, init, seed, weights, str(init_from), device_target)


def _built(
    spec: ModelSpec,
    sizes: NetworkSizes,
    init: str | None,
    seed: int,
    weights: Arrays | None,
    source: str,
    device_target: str,
) -> tuple[Arrays, dict[str, str]]:
    with graph_mode(device_target), mindspore_errors(), interrupt_held_back():
        before = set(sys.modules)
        network = spec.make(sizes, init=init, seed=seed)
        sources = module_files(set(sys.modules) - before) if spec.by_name else {}
        if weights is not None:
            load_weights(network, weights, source)
        values = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
        return {name: value.copy() for name, value in values.items() if value.dtype == np.float32}, sources
