"""Keeps parts of a graph from changes of the converter that it does not follow through: by negating a value twice.

That changes no bit, and the converter takes neither value nor layout through it.
"""

from __future__ import annotations

import math

from mindfl.convert.graph_editor import GraphEditor
from mindfl.convert.mindir import Proto
from mindfl.convert.monads import CHANGING
from mindfl.convert.written_out import NodeWriter

_IMAGE = 4  # dimensions of images
_TO_IMAGES = (0, 3, 1, 2)
_CONVOLUTIONS = ("Conv2D", "Conv2DBackpropInput")
_OF_ELEMENTS = ("Add", "Div", "Maximum", "Minimum", "Mul", "RealDiv", "Sub")


def keep_layer_weights_apart(editor: GraphEditor) -> None:
    """Negate a convolution's weights twice for what else is calculated with them, such as weight decay: no bit changes.

    The converter turns weights of convolutions. Where a calculation reads them too, without a ``Load`` between, it
    takes their old shape for it, and refuses the sum of that and the gradient.
    """
    known = {tensor.name for tensor in editor.graph.parameter}
    weights = {value for node in editor.nodes(*_CONVOLUTIONS) for value in node.input if value in known}
    weights |= _unread_filters(editor)
    apart: dict[str, str] = {}
    replaced: dict[str, tuple[Proto, ...]] = {}
    for node in editor.graph.node:
        if editor.operator(node) in (*_CONVOLUTIONS, *CHANGING, "MakeTuple"):
            continue
        writer = NodeWriter(editor, node)
        for value in weights.intersection(node.input) - apart.keys():
            apart[value] = writer.apart(value)
        node.input[:] = [apart.get(value, value) for value in node.input]
        if writer.nodes:
            replaced[node.output[0]] = (*writer.nodes, node)
    editor.replace_nodes(replaced)


def _unread_filters(editor: GraphEditor) -> set[str]:
    """Return the trained arrays of four dimensions that no layer reads, but a product with one number: weight decay."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in editor.graph.parameter}
    trained = {node.input[0] for node in editor.nodes(*CHANGING)}
    found = {name for name in trained if len(shapes.get(name, ())) == _IMAGE}
    for node in editor.graph.node:
        decay = editor.operator(node) == "Mul" and all(
            value in editor.constants or math.prod(shapes.get(value, (0,))) == 1 for value in set(node.input) - found
        )
        if editor.operator(node) not in (*CHANGING, "MakeTuple") and not decay:
            found -= set(node.input)
    return found


def keep_frozen_layers(editor: GraphEditor) -> None:
    """Negate what goes into a BatchNorm of constants twice, which changes no bit.

    The converter would merge a frozen convolution with the BatchNorm behind it, and the file would not hold the
    network's weights any more. Where gradients pass, they read the BatchNorm's input too, and nothing is merged.
    """
    for node in list(editor.nodes("BatchNorm")):
        readers = sum(value == node.input[0] for reader in editor.graph.node for value in reader.input)
        if editor.value(node, node.input[5]) is False and readers == 1:
            writer = NodeWriter(editor, node)
            node.input[0] = writer.apart(node.input[0])
            editor.replace_nodes({node.output[0]: (*writer.nodes, node)})


def keep_products_apart(editor: GraphEditor) -> None:
    """Negate twice what becomes an image of a turned product of matrices, as behind attention: no bit changes.

    The converter takes product and transposition together, and knows no order of axes for the convolution behind them.
    """
    makers = {node.output[0]: node for node in editor.graph.node}
    replaced: dict[str, tuple[Proto, ...]] = {}
    for node in editor.nodes("Reshape"):
        turned = makers.get(node.input[0])
        product = makers.get(turned.input[0]) if turned is not None and editor.operator(turned) == "Transpose" else None
        if product is None or editor.operator(product) not in ("BatchMatMul", "MatMul"):
            continue
        shape = editor.value(node, node.input[1])
        if isinstance(shape, tuple) and len(shape) == _IMAGE:
            writer = NodeWriter(editor, node)
            node.input[0] = writer.apart(node.input[0])
            replaced[node.output[0]] = (*writer.nodes, node)
    editor.replace_nodes(replaced)


def keep_images_apart(editor: GraphEditor) -> None:
    """Negate twice what a network turns from [N, height, width, channels] into images: no bit changes.

    The converter cancels this against its own transpositions, and may know no order of axes then for a convolution or
    its gradient.
    """
    for output in [node.output[0] for node in editor.nodes("Transpose")]:
        node = next(node for node in editor.graph.node if node.output[0] == output)
        if editor.value(node, node.input[1]) == _TO_IMAGES:
            writer = NodeWriter(editor, node)
            editor.replace_values({output: writer.apart(output)})
            editor.replace_nodes({output: (node, *writer.nodes)})


def keep_parameters_apart(editor: GraphEditor) -> None:
    """Negate twice the parameters that arithmetic with images reads, such as a weight of each row.

    The converter turns images, and copies such a parameter in another shape for them: the copy is not trained.
    """
    parameters = {tensor.name for tensor in editor.graph.parameter if 0 < len(tensor.dims) < _IMAGE}
    loaded = {node.output[0] for node in editor.nodes("Load") if node.input[0] in parameters}
    replaced: dict[str, tuple[Proto, ...]] = {}
    for node in editor.nodes(*_OF_ELEMENTS):
        if not (parameters | loaded).intersection(node.input) or len(editor.shape_of(node.output[0])) != _IMAGE:
            continue
        writer = NodeWriter(editor, node)
        for place, value in enumerate(node.input):
            if value in parameters or value in loaded:
                node.input[place] = writer.apart(value)
        replaced[node.output[0]] = (*writer.nodes, node)
    editor.replace_nodes(replaced)
