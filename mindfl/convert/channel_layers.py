"""BatchNorm and biases of series and volumes: the converter, and devices, take their last axis for the channels."""

from __future__ import annotations

import math

from mindfl.convert.graph_editor import GraphEditor
from mindfl.convert.mindir import Proto
from mindfl.convert.written_out import NodeWriter

#: operator -> its inputs with channels in the second axis
_INPUTS = {"BatchNorm": (0,), "BatchNormGrad": (0, 1), "BiasAdd": (0,), "BiasAddGrad": (0,)}
_KNOWN = (2, 4)  # dimensions of rows of numbers, and of images


def make_images(editor: GraphEditor) -> None:
    """Let a layer of :data:`_INPUTS` have an image in place of a series, [N, channels, length], or a volume."""
    for name in [node.output[0] for node in editor.nodes(*_INPUTS)]:
        node = next(node for node in editor.graph.node if node.output[0] == name)
        shape = editor.shape_of(node.input[0])
        if len(shape) not in _KNOWN:
            _make_image(editor, node, shape)


def _make_image(editor: GraphEditor, node: Proto, shape: tuple[int, ...]) -> None:
    image, writer, name = (*shape[:2], 1, math.prod(shape[2:])), NodeWriter(editor, node), str(node.output[0])
    operator = editor.operator(node)
    for place in _INPUTS[operator]:
        node.input[place] = writer.reshape(node.input[place], image)
        editor.state_shape(writer.nodes[-1], image)
    editor.replace_nodes({name: (*writer.nodes, node)})
    if operator == "BiasAdd":
        _reshaped_after(editor, name, image, shape)
    elif operator != "BiasAddGrad":
        items = [item for item in editor.nodes("TupleGetItem") if item.input[0] == name]
        first = [str(item.output[0]) for item in items if editor.value(item, item.input[1]) == 0]
        editor.change_shape(next(node for node in editor.graph.node if node.output[0] == name), image)
        for output in first:
            _reshaped_after(editor, output, image, shape)


def _reshaped_after(editor: GraphEditor, name: str, image: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Let a value be an image, and all that reads it read it in its own shape."""
    node = next(node for node in editor.graph.node if node.output[0] == name)
    writer = NodeWriter(editor, node)
    own = writer.reshape(name, shape)
    editor.state_shape(writer.nodes[-1], shape)
    editor.change_shape(node, image)
    editor.replace_values({name: own})
    editor.replace_nodes({name: (node, *writer.nodes)})
