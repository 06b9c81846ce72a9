"""Order of dimensions: weights in a ``.ms`` file, and the same weights in MindSpore.

MindSpore stores the filters of a convolution as [out, in, height, width] (KCHW), the converter as
[out, height, width, in] (KHWC). Shapes cannot distinguish the two if all but the first dimension are equal, as in a 3x3
filter on RGB. So the graph decides for tensors that a convolution reads as filters, and the format in the file for
others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError

if TYPE_CHECKING:
    from mindfl.lite.model import LiteModel, Tensor

NCHW, NHWC, KHWC = 0, 1, 7
_FILTER_INPUT = 1
_CONVOLUTIONS = ("Conv2DFusion", "Conv2DBackpropInputFusion")
#: operator -> the inputs that are parameters of a network, trained or not
_PARAMETER_INPUTS = {
    "BatchNorm": (1, 2, 3, 4),
    "BiasAdd": (1,),
    "Conv2DFusion": (1, 2),
    "FusedBatchNorm": (1, 2, 3, 4),
    "LayerNormFusion": (1, 2),
    "MatMulFusion": (1, 2),
}
#: beginning of the names that MindSpore gives to constants in a network's code, which are no parameters
_WRITTEN = "Default/"
_TO_KCHW, _TO_KHWC = (0, 3, 1, 2), (0, 2, 3, 1)

Weights = Mapping[str, NDArray[np.float32]]


def network_tensors(model: LiteModel) -> dict[str, Tensor]:
    """Return the parameters of the network by name, without optimizer state.

    They are the trained tensors, and the float32 constants that a layer reads as its weight, bias or statistics.
    """
    found = dict(model.parameters)
    for node in model.nodes:
        for place in _PARAMETER_INPUTS.get(node.op, ()):
            tensor = model.tensors[node.inputs[place]] if place < len(node.inputs) else None
            if tensor is None or tensor.data is None or tensor.dtype != np.float32:
                continue
            if tensor.name.startswith(_WRITTEN) and tensor.name not in found:
                continue
            if found.setdefault(tensor.name, tensor) is not tensor:
                raise ModelFormatError(f"the model holds several parameters named {tensor.name!r}")
    return found


def khwc_weights(model: LiteModel) -> frozenset[str]:
    """Return the names of the network's parameters that the file stores as [out, height, width, in].

    Raises :class:`ModelFormatError` if neither graph nor file determines the order of a parameter of four dimensions.
    """
    filters = {node.inputs[_FILTER_INPUT] for node in model.nodes if node.op in _CONVOLUTIONS}
    updates = {node.index for node in model.optimizer_nodes}
    calculated = {index for node in model.nodes if node.index not in updates for index in node.inputs}
    names = set()
    for name, tensor in network_tensors(model).items():
        # Filters of a layer that nothing reads, which the optimizer updates all the same, have the images' format.
        turned = tensor.format == KHWC or (tensor.format == NHWC and tensor.index not in calculated)
        if tensor.index in filters or (len(tensor.dims) == 4 and turned):
            names.add(name)
        elif len(tensor.dims) == 4 and tensor.format != NCHW:
            raise ModelFormatError(f"the model does not say in which order the dimensions {tensor.dims} of {name} are")
    return frozenset(names)


def to_mindspore(model: LiteModel, values: Weights) -> dict[str, NDArray[np.float32]]:
    """Return all parameters of the network in MindSpore's order and shapes; those in ``values`` with these values.

    Raises :class:`ModelFormatError` for a name that the network does not have and for a wrong number of elements.
    """
    tensors, turned = network_tensors(model), khwc_weights(model)
    _check_known(values, tensors)
    result = {}
    for name, tensor in tensors.items():
        value = _shaped(name, values.get(name, np.asarray(tensor.data)), tensor.dims)
        result[name] = (value.transpose(_TO_KCHW) if name in turned else value).copy()
    return result


def from_mindspore(model: LiteModel, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Return ``weights``, which are in MindSpore's order and shapes, in the order and shapes of the file.

    Raises :class:`ModelFormatError` for a name that the network does not have and for another shape than MindSpore's.
    """
    tensors, turned = network_tensors(model), khwc_weights(model)
    _check_known(weights, tensors)
    result = {}
    for name, value in weights.items():
        dims = tensors[name].dims
        expected = tuple(dims[axis] for axis in _TO_KCHW) if name in turned else dims
        if value.shape != expected:
            raise ModelFormatError(f"weight {name} has shape {value.shape}, the network's has {expected}")
        result[name] = (value.transpose(_TO_KHWC) if name in turned else value).copy()
    return result


def _check_known(weights: Weights, tensors: Mapping[str, Tensor]) -> None:
    unknown = sorted(weights.keys() - tensors.keys())
    if unknown:
        raise ModelFormatError(f"the model has no weight {', '.join(unknown)}")


def _shaped(name: str, value: NDArray[np.generic], dims: tuple[int, ...]) -> NDArray[np.float32]:
    if value.size != math.prod(dims):
        raise ModelFormatError(f"weight {name} has {value.size} values, the model's has {math.prod(dims)}")
    return value.astype(np.float32, copy=False).reshape(dims)
