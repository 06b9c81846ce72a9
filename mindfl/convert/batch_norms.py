"""BatchNorm of arrays that are no images: the converter, and devices, take the last axis of three for the channels."""

from __future__ import annotations

import math

from mindfl.convert.graph_editor import GraphEditor
from mindfl.convert.mindir import Proto
from mindfl.convert.written_out import NodeWriter

#: operator -> its inputs of the shape that is normalised
_INPUTS = {"BatchNorm": (0,), "BatchNormGrad": (0, 1)}
_KNOWN = (2, 4)  # dimensions of rows of numbers, and of images


def make_images(editor: GraphEditor) -> None:
    """Let each BatchNorm of a series, [N, channels, length], or of a volume have an image of the same values."""
    for name in [node.output[0] for node in editor.nodes(*_INPUTS)]:
        node = next(node for node in editor.graph.node if node.output[0] == name)
        shape = editor.shape_of(node.input[0])
        if len(shape) not in _KNOWN:
            _make_image(editor, node, shape)


def _make_image(editor: GraphEditor, node: Proto, shape: tuple[int, ...]) -> None:
    image, writer, name = (*shape[:2], 1, math.prod(shape[2:])), NodeWriter(editor, node), node.output[0]
    for place in _INPUTS[editor.operator(node)]:
        node.input[place] = writer.reshape(node.input[place], image)
        editor.state_shape(writer.nodes[-1], image)
    editor.change_shape(node, image)
    editor.replace_nodes({name: (*writer.nodes, node)})
    for output in [item.output[0] for item in editor.nodes("TupleGetItem") if item.input[0] == name]:
        item = next(item for item in editor.graph.node if item.output[0] == output)
        if editor.value(item, item.input[1]) == 0:
            after = NodeWriter(editor, item)
            series = after.reshape(output, shape)
            editor.state_shape(after.nodes[-1], shape)
            editor.change_shape(item, image)
            editor.replace_values({output: series})
            after.nodes[-1].input[0] = output
            editor.replace_nodes({output: (item, *after.nodes)})
