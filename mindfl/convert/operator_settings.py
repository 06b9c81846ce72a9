"""Settings of operators: inputs in MINDIR version 3, attributes of the primitive in version 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mindfl.convert.graph_editor import GraphEditor, Value, node_label
from mindfl.convert.mindir import Proto
from mindfl.errors import MindirError
from mindfl.lite.model import UNCONVERTED

_FORMATS = (b"NCHW", b"NHWC")
_REDUCTIONS = (b"sum", b"mean", b"none")
_PAD_MODES = {1: b"SAME", 2: b"VALID"}


def _as_it_is(value: Value) -> Value | None:
    return value


def _format(value: Value) -> Value | None:
    return _FORMATS[value] if isinstance(value, int) and value in (0, 1) else None


def _pad_mode(value: Value) -> Value | None:
    return _PAD_MODES.get(value) if isinstance(value, int) else None


def _window(value: Value) -> Value | None:
    """Height and width, for an attribute that also has batch and channels."""
    return (1, 1, *value) if isinstance(value, tuple) and len(value) == 2 else None


def _reduction(value: Value) -> Value | None:
    return _REDUCTIONS[value] if isinstance(value, int) and value in (0, 1, 2) else None


def _axes(value: Value) -> Value | None:
    return value if isinstance(value, tuple) else (value,) if isinstance(value, int) else None


@dataclass(frozen=True)
class _Setting:
    """An input that becomes the attributes ``names``, which must agree; none: it is left out."""

    names: tuple[str, ...]
    form: Callable[[Value], Value | None] = _as_it_is


def _plain(*names: str) -> tuple[_Setting, ...]:
    return tuple(_Setting((name,)) for name in names)


@dataclass(frozen=True)
class _Settings:
    """Inputs that become attributes, from the place ``first`` on."""

    first: int
    settings: tuple[_Setting, ...]


_TRANSPOSES = tuple(_Setting((f"transpose_{x}", f"transpose_x{i}")) for i, x in enumerate("ab", 1))
_ADJOINTS = tuple(_Setting((f"transpose_{x}", f"transpose_x{i}", f"adj_x{i}")) for i, x in enumerate("ab", 1))
_FORMAT = _Setting(("format", "data_format"), _format)
_POOL = (
    _Setting(("kernel_size",), _window),
    _Setting(("strides",), _window),
    _Setting(("pad_mode",), _pad_mode),
    _FORMAT,
)
_MASKS = _plain("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")

#: operators of version 3 whose settings are inputs
SETTINGS = {
    "Argmax": _Settings(1, _plain("axis", "output_type")),
    "AvgPool": _Settings(1, _POOL),
    "AvgPoolGrad": _Settings(3, _POOL),
    "BatchMatMul": _Settings(2, _ADJOINTS),
    "BatchNorm": _Settings(5, (*_plain("is_training", "epsilon", "momentum"), _FORMAT)),
    "BatchNormGrad": _Settings(6, (*_plain("is_training", "epsilon"), _FORMAT)),
    "BiasAdd": _Settings(2, (_FORMAT,)),
    "BiasAddGrad": _Settings(1, (_FORMAT,)),
    "BinaryCrossEntropy": _Settings(3, (_Setting(("reduction",), _reduction),)),
    "BinaryCrossEntropyGrad": _Settings(4, (_Setting(("reduction",), _reduction),)),
    "Concat": _Settings(1, _plain("axis")),
    "Dropout": _Settings(1, _plain("keep_prob", "Seed0", "Seed1")),
    "Elu": _Settings(1, _plain("alpha")),
    "Gather": _Settings(3, _plain("batch_dims")),
    "LayerNorm": _Settings(3, _plain("begin_norm_axis", "begin_params_axis", "epsilon")),
    "LayerNormGrad": _Settings(5, _plain("begin_norm_axis", "begin_params_axis")),
    "LogSoftmax": _Settings(1, _plain("axis")),
    "MatMul": _Settings(2, _TRANSPOSES),
    "OneHot": _Settings(4, _plain("axis")),
    "ReduceMax": _Settings(2, _plain("keep_dims")),
    "ReduceMean": _Settings(2, _plain("keep_dims")),
    "ReduceMin": _Settings(2, _plain("keep_dims")),
    "ReduceSum": _Settings(2, _plain("keep_dims", "skip_mode")),
    "Softmax": _Settings(1, (_Setting(("axis",), _axes),)),
    "Split": _Settings(1, _plain("axis", "output_num")),
    "Squeeze": _Settings(1, (_Setting(("axis",), _axes),)),
    "StridedSlice": _Settings(4, _MASKS),
}

#: operators of version 3 that have constants as inputs in version 1 too
CONSTANT_INPUTS = frozenset(
    (
        *(
            "Conv2DBackpropFilter",
            "Conv2DBackpropInput",
            "Depend",
            "ExpandDims",
            "Load",
            "Reshape",
            "Slice",
            "SliceGrad",
        ),
        *("StridedSliceGrad", "Tile", "Transpose", "TupleGetItem", "UnsortedSegmentSum", "UpdateState", "BroadcastTo"),
    )
)


def move_settings(editor: GraphEditor) -> None:
    """Turn the inputs of :data:`SETTINGS` into attributes.

    Raises:
        MindirError: a setting is not a constant, or has a value that version 1 does not know.
    """
    homes: dict[tuple[str, tuple[Value | None, ...]], Proto] = {}
    for node in editor.graph.node:
        settings = SETTINGS.get(editor.operator(node))
        if settings is None or len(node.input) <= settings.first:
            continue
        primitive = editor.primitive_of(node)
        values = _taken(editor, node, settings)
        key = (str(primitive.name), values)
        if key not in homes:
            # Nodes with different settings share one primitive.
            taken = any(home is primitive for home in homes.values())
            home = editor.clone_primitive(primitive.name) if taken else primitive
            named = {
                name: value
                for setting, value in zip(settings.settings, values, strict=True)
                if value is not None
                for name in setting.names
            }
            editor.set_attributes(home, named)
            homes[key] = home
        editor.refer(node, homes[key])


def _taken(editor: GraphEditor, node: Proto, settings: _Settings) -> tuple[Value | None, ...]:
    """Take the settings from a node's inputs, and return them as attributes hold them."""
    first, count = settings.first, len(settings.settings)
    moved = list(node.input)[first : first + count]
    if len(moved) != count:
        raise MindirError(f"node {node_label(node)} has {len(moved)} settings instead of {count}")
    del node.input[first : first + count]
    node.input[:] = [name for name in node.input if not editor.is_none(name)]
    return tuple(_formed(editor, node, name, setting) for name, setting in zip(moved, settings.settings, strict=True))


def _formed(editor: GraphEditor, node: Proto, name: str, setting: _Setting) -> Value:
    value = setting.form(editor.value(node, name))
    if value is None:
        raise MindirError(
            f"node {node_label(node)} has a setting ({name}) that is not a known constant", hint=UNCONVERTED
        )
    return value
