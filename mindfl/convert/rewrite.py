"""Rewrites a MINDIR of version 3 (MindSpore 2.10) as version 1, which the MindSpore Lite 2.0.0 converter reads.

The result holds what MindSpore 2.0.0 exports for the same network, node for node, but for monads where there is a
BatchNorm (:mod:`mindfl.convert.monads`). Version 3 differs in this:

- settings of operators are constant inputs; version 1 has attributes (:mod:`mindfl.convert.operator_settings`);
- some operators are new (:mod:`mindfl.convert.written_out`);
- every optimizer counts its steps with ``AssignAdd(global_step, 1)``, for which MindSpore Lite has no kernel;
- equal tensor constants are repeated for each use;
- primitives, nodes and the graph carry marks that version 1 does not know.

An operator whose inputs are all tensors is the same in both, and is left to the converter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from mindfl.convert import (  # noqa: F401  (they register)
    adam_weight_decay,
    written_activations,
    written_arithmetic,
    written_axes,
    written_layers,
    written_losses,
    written_mint,
    written_paddings,
    written_pools,
)
from mindfl.convert.channel_layers import make_images
from mindfl.convert.graph_editor import CONSTANT, GraphEditor, node_label
from mindfl.convert.kept_apart import (
    keep_frozen_layers,
    keep_images_apart,
    keep_layer_weights_apart,
    keep_parameters_apart,
    keep_products_apart,
)
from mindfl.convert.mindir import Proto, khwc, mindir_protocol, optimizer_states, parameter_name, parameters
from mindfl.convert.monads import let_sums_read_gradients, remove_monads
from mindfl.convert.operator_settings import CONSTANT_INPUTS, SETTINGS, move_settings
from mindfl.convert.written_out import WRITTEN_OUT, NodeWriter
from mindfl.errors import MindirError
from mindfl.lite.model import UNCONVERTED
from mindfl.lite.ops.registry import OWN

TARGET_VERSION = 1
NEWEST_VERSION = 3
_TARGET_IR_VERSION = "0.1.1"  # what MindSpore 2.0.0 writes

_STEP_COUNTER = "AssignAdd"
#: operators of version 3 that version 1 knows under another name, with the same inputs and attributes
_RENAMED = {
    "Conv2DTranspose": "Conv2DBackpropInput",
    "make_list": "MakeTuple",
    "OneHotExt": "OneHot",
}
#: operators that share their input's memory -> those that do not, and how many inputs they have; one more is a monad
_VIEWS = {
    "BroadcastToView": ("BroadcastTo", 2),
    "ExpandDimsView": ("ExpandDims", 2),
    "NarrowView": ("Narrow", 4),
    "SplitWithSizeView": ("SplitWithSize", 3),
    "TransposeView": ("Transpose", 2),
}


def rewrite(model: Proto, *, apart: bool = False) -> Proto:
    """Return ``model`` as version 1, with the optimizer state laid out like the weights of the ``.ms`` file.

    ``apart``: what the network itself turns into images is kept from the converter's own transpositions, for a second
    attempt (:mod:`mindfl.convert.kept_apart`). Returns a rewritten copy, or ``model`` itself if nothing has to be
    changed.

    Raises :class:`MindirError` for a version newer than 3, for sub-graphs, for an operator that is not in
    :data:`OPERATORS`, and for a setting that is not a constant; the message names it. So does a graph that is not
    whole, such as one with a node that lacks an input.
    """
    misaligned = _misaligned_states(model)
    if model.mind_ir_version <= TARGET_VERSION and not misaligned:
        return model
    result = mindir_protocol().ModelProto()
    result.CopyFrom(model)
    if model.mind_ir_version > TARGET_VERSION:
        _check_supported(model)
        with _refusing_broken_graphs():
            _rewrite(result, apart)
    for tensor in result.graph.parameter:
        if (state := misaligned.get(parameter_name(tensor))) is not None:
            tensor.raw_data = state.tobytes()
    return result


@contextmanager
def _refusing_broken_graphs() -> Iterator[None]:
    """Raise :class:`MindirError` where a node has not the inputs, outputs or attributes that its operator has."""
    try:
        yield
    except (LookupError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise MindirError(
            "the graph is not whole, or of a form that mindfl does not know: it cannot be rewritten for the converter"
            f" ({type(error).__name__}: {' '.join(str(error).split())})",
            hint=f"export it again; or {UNCONVERTED}",
        ) from error


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
    refuse_control_flow(model)
    unknown = unknown_operators(model)
    if unknown:
        operator, node = next(iter(unknown.items()))
        raise MindirError(
            f"mindfl cannot rewrite the operator {operator} (node {node}) for the 2.0.0 converter",
            hint="name a newer converter with --converter, export with MindSpore 2.0, or add an operator of your own "
            f"with --operator file.py:name (docs/extending.md); or {UNCONVERTED}; known operators: "
            + ", ".join(sorted({*SETTINGS, *CONSTANT_INPUTS, *WRITTEN_OUT, *_RENAMED, *_VIEWS})),
        )


def refuse_control_flow(model: Proto) -> None:
    """Raise :class:`MindirError` where the graph has sub-graphs, which MindSpore makes of conditions and loops."""
    if model.functions:
        raise MindirError(
            f"the graph has {len(model.functions)} sub-graphs, which are not supported",
            hint="write the network without control flow: conditions, loops, and what is made of them, such as"
            f" ops.prod, ops.clip_by_norm and a loss scale that watches for overflow; or {UNCONVERTED}",
        )


def unknown_operators(model: Proto) -> dict[str, str]:
    """Return the operators in ``model`` that :func:`rewrite` cannot rewrite, each with the first node that uses it.

    They have inputs that are no tensors, and may have to become attributes.
    """
    editor = GraphEditor(model)
    known = {
        *SETTINGS,
        *CONSTANT_INPUTS,
        *WRITTEN_OUT,
        *_RENAMED,
        *_VIEWS,
        *(name for own in OWN for name in own.primitives),
    }
    found: dict[str, str] = {}
    for node in model.graph.node:
        operator = editor.operator(node)
        settings = [name for name in node.input if not editor.is_tensor(name) and not editor.is_monad(name)]
        if node.op_type != CONSTANT and operator not in known and settings:
            found.setdefault(operator, node_label(node))
    return found


def _rewrite(model: Proto, apart: bool) -> None:
    editor = GraphEditor(model)
    for node in editor.nodes(*_VIEWS):
        del node.input[_VIEWS[editor.operator(node)][1] :]
    for primitive in editor.primitives:
        name = _VIEWS.get(primitive.op_type, (primitive.op_type,))[0]
        primitive.op_type = _RENAMED.get(name, name)
    _remove_step_counters(editor)
    remove_monads(editor)
    let_sums_read_gradients(editor)
    _flatten_losses(editor)
    make_images(editor)
    keep_layer_weights_apart(editor)
    if optimizer_states(model):
        keep_frozen_layers(editor)
    _write_out(editor)
    _state_all_axes(editor)
    keep_products_apart(editor)
    if apart:
        keep_images_apart(editor)
        keep_parameters_apart(editor)
    move_settings(editor)
    editor.merge_equal_tensors()
    editor.remove_unread_constants()
    _repair_attributes(editor)
    _strip_marks(model)


def _flatten_losses(editor: GraphEditor) -> None:
    """State the shape [samples] of the losses that a one-hot cross entropy has for each sample, where weights meet it.

    The converter takes them for a column, so that their product with a weight for each sample would be a matrix.
    """
    entropies = {node.output[0] for node in editor.nodes("SoftmaxCrossEntropyWithLogits")}
    items = [node for node in editor.nodes("TupleGetItem") if node.input[0] in entropies]
    for name in [node.output[0] for node in items if editor.value(node, node.input[1]) == 0]:
        readers = [node for node in editor.graph.node if name in node.input and not _means(editor, node)]
        if not readers:
            continue
        writer = NodeWriter(editor, next(node for node in items if node.output[0] == name))
        flat = writer.reshape(name, editor.shape_of(name))
        editor.state_shape(writer.nodes[-1], editor.shape_of(name))
        for reader in readers:
            reader.input[:] = [flat if value == name else value for value in reader.input]
        editor.replace_nodes({name: (writer.node, *writer.nodes)})


def _means(editor: GraphEditor, node: Proto) -> bool:
    """Return whether a node makes one number of all losses, or passes them on to none that calculates."""
    operator = editor.operator(node)
    if operator in ("ReduceMean", "ReduceSum", "MeanExt", "SumExt"):
        return editor.is_none(node.input[1]) or editor.value(node, node.input[1]) in ((), (0,), 0)
    return operator in ("Depend", "MakeTuple", "UpdateState")


def _write_out(editor: GraphEditor) -> None:
    """Replace the nodes of :data:`WRITTEN_OUT`, one after the other."""
    for name in [node.output[0] for node in editor.nodes(*WRITTEN_OUT)]:
        node = next(node for node in editor.graph.node if node.output[0] == name)
        writer = NodeWriter(editor, node)
        outputs = WRITTEN_OUT[editor.operator(node)](writer)
        items = dict(_items(editor, node, outputs))
        for place, output in enumerate(outputs):  # others may ask for the shape
            editor.copy_shape(node, place, next((new for new in writer.nodes if new.output[0] == output), None))
        editor.replace_nodes({**dict.fromkeys(items, ()), name: writer.nodes})
        editor.replace_values({name: outputs[0], **items})


def _state_all_axes(editor: GraphEditor) -> None:
    """Let reductions over all axes, whose list of axes is empty, name them."""
    for node in list(editor.nodes("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")):
        axes = node.input[1]
        if not editor.is_tensor(axes) and not editor.is_none(axes) and editor.value(node, axes) == ():
            stated = editor.new_constant(tuple(range(len(editor.shape_of(node.input[0])))))
            node.input[1] = stated.output[0]
            editor.replace_nodes({node.output[0]: (stated, node)})


def _items(editor: GraphEditor, node: Proto, outputs: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the values that pick one of a node's outputs, each with what replaces it."""
    for reader in editor.nodes("TupleGetItem"):
        if reader.input[0] == node.output[0]:
            place = editor.value(reader, reader.input[1])
            if not isinstance(place, int) or place >= len(outputs):
                raise MindirError(f"node {node_label(reader)} picks an output that {node_label(node)} does not have")
            yield str(reader.output[0]), outputs[place]


def _remove_step_counters(editor: GraphEditor) -> None:
    counters = list(editor.nodes(_STEP_COUNTER))
    for counter in counters:
        _check_only_counts(editor, counter)
    gone = {counter.output[0] for counter in counters}
    replaced: dict[str, str] = {}
    for update in editor.nodes("UpdateState"):
        left = [value for value in update.input if value not in gone]
        if len(left) == 1 and len(update.input) > 1:
            replaced[update.output[0]] = left[0]
        update.input[:] = left
    editor.replace_nodes(dict.fromkeys(gone.union(replaced), ()))
    editor.replace_values(replaced)


def _check_only_counts(editor: GraphEditor, counter: Proto) -> None:
    if not counter.input:
        raise MindirError(f"node {node_label(counter)} has no input")
    variable, result = counter.input[0], counter.output[0]
    for node in editor.graph.node:
        reads_variable = variable in node.input and node.output[0] != result
        reads_result = result in node.input and editor.operator(node) != "UpdateState"
        if reads_variable or reads_result:
            raise MindirError(
                f"operator {_STEP_COUNTER} on {variable.rpartition(':')[2]} cannot be removed: "
                f"node {node_label(node)} reads it",
                hint="use an optimizer with a constant learning rate and weight decay; in a job, --lr_schedule changes"
                f" the rate from round to round; or {UNCONVERTED}",
            )


def _repair_attributes(editor: GraphEditor) -> None:
    kinds = mindir_protocol().AttributeProto
    for primitive in editor.primitives:
        names = {attribute.name for attribute in primitive.attribute}
        if primitive.op_type == "SparseSoftmaxCrossEntropyWithLogits" and "sens" not in names:
            editor.set_attributes(primitive, {"sens": 1.0})
        for attribute in primitive.attribute:
            if attribute.type == kinds.INT32:
                attribute.type = kinds.INT64
            elif attribute.type == kinds.TUPLE and any(item.type == kinds.STRING for item in attribute.values):
                attribute.type = kinds.LIST


def _strip_marks(model: Proto) -> None:
    for primitive in model.primitives:
        primitive.ClearField("prim_type")
    for node in model.graph.node:
        del node.node_attr[:]
    del model.graph.attribute[:]
    model.mind_ir_version = TARGET_VERSION
    model.ir_version = _TARGET_IR_VERSION
