"""Rewrites a MINDIR of version 3 (MindSpore 2.10) as version 1, which the MindSpore Lite 2.0.0 converter reads.

The result holds what MindSpore 2.0.0 exports for the same network, node for node. Version 3 differs in this:

- the settings of MatMul, BiasAdd and BiasAddGrad are constant inputs; version 1 has attributes of the primitive;
- nodes with different settings share one primitive, which is therefore cloned per setting;
- every optimizer counts its steps with ``AssignAdd(global_step, 1)``, for which MindSpore Lite has no kernel;
- equal tensor constants are repeated for each use;
- primitives, nodes and the graph carry marks that version 1 does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mindfl.convert.mindir import Proto, khwc, mindir_protocol, optimizer_states, parameter_name, parameters
from mindfl.errors import MindirError
from mindfl.lite.ops.registry import OWN

TARGET_VERSION = 1
NEWEST_VERSION = 3
_TARGET_IR_VERSION = "0.1.1"  # what MindSpore 2.0.0 writes

_CONSTANT = "Constant"
_REFERENCE = "REF::"
_STEP_COUNTER = "AssignAdd"
_FORMATS = (b"NCHW", b"NHWC")


@dataclass(frozen=True)
class _Settings:
    """Inputs, from ``first`` on, that become attributes; each may have aliases that must agree."""

    first: int
    names: tuple[tuple[str, ...], ...]


_UNCHANGED = _Settings(first=0, names=())

#: every operator that may occur in a version 3 graph; extend it to support other networks
OPERATORS = {
    "MatMul": _Settings(2, (("transpose_a", "transpose_x1"), ("transpose_b", "transpose_x2"))),
    "BiasAdd": _Settings(2, (("format", "data_format"),)),
    "BiasAddGrad": _Settings(1, (("format", "data_format"),)),
    "ReduceMean": _Settings(2, (("keep_dims",),)),
    **dict.fromkeys(
        (
            *("Adam", "AddN", "ApplyMomentum", "Assign", _STEP_COUNTER, "Conv2D", "Conv2DBackpropFilter"),
            *("Conv2DBackpropInput", "Depend", "ExpandDims", "Flatten", "Load", "MakeTuple", "MaxPool", "MaxPoolGrad"),
            *("Mul", "RealDiv", "ReLU", "ReluGrad", "Reshape", "SGD", "SoftmaxCrossEntropyWithLogits"),
            *("SparseSoftmaxCrossEntropyWithLogits", "TupleGetItem", "UpdateState"),
        ),
        _UNCHANGED,
    ),
}


def rewrite(model: Proto) -> Proto:
    """Return ``model`` as version 1, with the optimizer state laid out like the weights of the ``.ms`` file.

    Returns a rewritten copy, or ``model`` itself if nothing has to be changed.

    Raises :class:`MindirError` for a version newer than 3, for sub-graphs, for an operator that is not in
    :data:`OPERATORS`, and for a setting that is not a constant; the message names it.
    """
    misaligned = _misaligned_states(model)
    if model.mind_ir_version <= TARGET_VERSION and not misaligned:
        return model
    result = mindir_protocol().ModelProto()
    result.CopyFrom(model)
    if model.mind_ir_version > TARGET_VERSION:
        _check_supported(model)
        _Rewriter(result).run()
    for tensor in result.graph.parameter:
        if (state := misaligned.get(parameter_name(tensor))) is not None:
            tensor.raw_data = state.tobytes()
    return result


def _label(node: Proto) -> str:
    return str(node.domain or node.name)


def _misaligned_states(model: Proto) -> dict[str, NDArray[Any]]:
    """Return the optimizer state of convolution weights, transposed to KHWC: the converter transposes the weights only.
    Its dimensions are unchanged, as the device uses it element by element."""
    values = parameters(model)
    states = (name for names in optimizer_states(model).values() for name in names)
    turned = {name: khwc(values[name]) for name in states if name in values and values[name].ndim == 4}
    return {name: state for name, state in turned.items() if state.tobytes() != values[name].tobytes()}


def _check_supported(model: Proto) -> None:
    if model.mind_ir_version > NEWEST_VERSION:
        raise MindirError(
            f"MINDIR version {model.mind_ir_version} (MindSpore {model.model_version}) is not supported",
            hint=f"export with a MindSpore whose MINDIR version is at most {NEWEST_VERSION}, such as 2.10",
        )
    if model.functions:
        raise MindirError(
            f"the graph has {len(model.functions)} sub-graphs, which are not supported",
            hint="write the network without control flow",
        )
    unknown = unknown_operators(model)
    if unknown:
        operator, node = next(iter(unknown.items()))
        raise MindirError(
            f"mindfl cannot rewrite the operator {operator} (node {node}) for the 2.0.0 converter",
            hint="name a newer converter with --converter, export with MindSpore 2.0, or add an operator of your own "
            "with --operator file.py:name (docs/extending.md); known operators: " + ", ".join(sorted(OPERATORS)),
        )


def unknown_operators(model: Proto) -> dict[str, str]:
    """Return the operators in ``model`` that :func:`rewrite` does not know, each with the first node that uses it."""
    types = {primitive.name: primitive.op_type for primitive in model.primitives}
    known = {*OPERATORS, *(name for own in OWN for name in own.primitives)}
    found: dict[str, str] = {}
    for node in model.graph.node:
        operator = types.get(node.op_type.removeprefix(_REFERENCE), node.op_type)
        if operator not in known and operator != _CONSTANT:
            found.setdefault(operator, _label(node))
    return found


class _Rewriter:
    """Rewrites one model in place."""

    def __init__(self, model: Proto) -> None:
        self._attribute = mindir_protocol().AttributeProto
        self._model = model
        self._graph = model.graph
        self._primitives = {primitive.name: primitive for primitive in model.primitives}
        self._constants = {node.output[0]: node.attribute[0] for node in self._graph.node if node.op_type == _CONSTANT}

    def run(self) -> None:
        self._move_settings()
        self._remove_step_counters()
        self._merge_equal_tensors()
        self._remove_unread_constants()
        self._repair_attributes()
        self._strip_marks()

    def _operator(self, node: Proto) -> str:
        primitive = self._primitives.get(node.op_type.removeprefix(_REFERENCE))
        return str(primitive.op_type) if primitive is not None else ""

    def _nodes(self, operator: str) -> Iterator[Proto]:
        return (node for node in self._graph.node if self._operator(node) == operator)

    def _move_settings(self) -> None:
        homes: dict[tuple[str, tuple[bytes | bool, ...]], str] = {}
        for node in self._graph.node:
            settings = OPERATORS.get(self._operator(node), _UNCHANGED)
            if len(node.input) <= settings.first or not settings.names:
                continue
            name = node.op_type.removeprefix(_REFERENCE)
            values = self._take_settings(node, settings)
            home = homes.get((name, values)) or self._primitive_with(name, settings, values, taken=set(homes.values()))
            homes[name, values] = home
            node.op_type = _REFERENCE + home

    def _take_settings(self, node: Proto, settings: _Settings) -> tuple[bytes | bool, ...]:
        inputs = list(node.input)
        moved = inputs[settings.first : settings.first + len(settings.names)]
        if len(moved) != len(settings.names):
            raise MindirError(f"node {_label(node)} has {len(moved)} settings instead of {len(settings.names)}")
        del node.input[settings.first : settings.first + len(settings.names)]
        return tuple(self._setting(node, value) for value in moved)

    def _setting(self, node: Proto, value: str) -> bytes | bool:
        constant = self._constants.get(value)
        if constant is not None and constant.type == self._attribute.BOOL:
            return bool(constant.i)
        if constant is not None and constant.type == self._attribute.INT64 and constant.i in (0, 1):
            return _FORMATS[constant.i]
        raise MindirError(f"node {_label(node)} has a setting ({value}) that is not a known constant")

    def _primitive_with(self, name: str, settings: _Settings, values: tuple[bytes | bool, ...], taken: set[str]) -> str:
        primitive = self._primitives[name]
        if name in taken:
            original, primitive = primitive, self._model.primitives.add()
            primitive.CopyFrom(original)
            primitive.name = f"{name}-{len(self._model.primitives)}"
            self._primitives[primitive.name] = primitive
        for names, value in zip(settings.names, values, strict=True):
            for attribute in names:
                self._set(primitive, attribute, value)
        return str(primitive.name)

    def _set(self, primitive: Proto, name: str, value: bytes | bool | float) -> None:
        attribute = next((known for known in primitive.attribute if known.name == name), None)
        attribute = attribute or primitive.attribute.add(name=name)
        if isinstance(value, bytes):
            attribute.type, attribute.s = self._attribute.STRING, value
        elif isinstance(value, bool):
            attribute.type, attribute.i = self._attribute.BOOL, int(value)
        else:
            attribute.type, attribute.f = self._attribute.FLOAT, value

    def _remove_step_counters(self) -> None:
        removed = list(self._nodes(_STEP_COUNTER))
        for counter in removed:
            self._check_only_counts(counter)
        gone = {counter.output[0] for counter in removed}
        replaced: dict[str, str] = {}
        for update in list(self._nodes("UpdateState")):
            left = [value for value in update.input if value not in gone]
            if len(left) == 1 and len(update.input) > 1:
                replaced[update.output[0]] = left[0]
                removed.append(update)
            update.input[:] = left
        for node in removed:
            self._graph.node.remove(node)
        self._replace_values(replaced)

    def _check_only_counts(self, counter: Proto) -> None:
        if not counter.input:
            raise MindirError(f"node {_label(counter)} has no input")
        variable, result = counter.input[0], counter.output[0]
        for node in self._graph.node:
            reads_variable = variable in node.input and node.output[0] != result
            reads_result = result in node.input and self._operator(node) != "UpdateState"
            if reads_variable or reads_result:
                raise MindirError(
                    f"operator {_STEP_COUNTER} on {variable.rpartition(':')[2]} cannot be removed: "
                    f"node {_label(node)} reads it",
                    hint="use an optimizer with a constant learning rate",
                )

    def _merge_equal_tensors(self) -> None:
        first: dict[bytes, str] = {}
        replaced: dict[str, str] = {}
        for name, attribute in self._constants.items():
            if attribute.type == self._attribute.TENSORS:
                content = self._attribute()
                content.CopyFrom(attribute)
                for tensor in content.tensors:
                    tensor.ClearField("name")
                replaced[name] = first.setdefault(content.SerializeToString(deterministic=True), name)
        self._replace_values(replaced)

    def _replace_values(self, replaced: dict[str, str]) -> None:
        def final(name: str) -> str:
            while replaced.get(name, name) != name:
                name = replaced[name]
            return name

        for node in self._graph.node:
            node.input[:] = [final(value) for value in node.input]

    def _remove_unread_constants(self) -> None:
        uses = Counter(value for node in self._graph.node for value in node.input)
        uses.update(output.name for output in self._graph.output)
        for node in [node for node in self._graph.node if node.op_type == _CONSTANT]:
            if not uses[node.output[0]]:
                self._graph.node.remove(node)

    def _repair_attributes(self) -> None:
        for primitive in self._model.primitives:
            names = {attribute.name for attribute in primitive.attribute}
            if primitive.op_type == "SparseSoftmaxCrossEntropyWithLogits" and "sens" not in names:
                self._set(primitive, "sens", 1.0)
            for attribute in primitive.attribute:
                if attribute.type == self._attribute.INT32:
                    attribute.type = self._attribute.INT64

    def _strip_marks(self) -> None:
        for primitive in self._model.primitives:
            primitive.ClearField("prim_type")
        for node in self._graph.node:
            del node.node_attr[:]
        del self._graph.attribute[:]
        self._model.mind_ir_version = TARGET_VERSION
        self._model.ir_version = _TARGET_IR_VERSION
