"""A converted model as a multiset of nodes, each described by everything but its name and its place in the file."""

from __future__ import annotations

import hashlib
from functools import cache

from mindfl.lite.model import LiteModel, Node


def node_hashes(model: LiteModel) -> list[str]:
    """Return ``operator hash`` of each node, sorted. A hash covers the operator, its attributes, and recursively its
    inputs with shape, type, format and constant bytes."""
    producers = {index: (node, place) for node in model.nodes for place, index in enumerate(node.outputs)}

    @cache
    def tensor_hash(index: int) -> str:
        tensor = model.tensors[index]
        shape = repr((tensor.dims, str(tensor.dtype), tensor.format))
        if index in producers:
            node, place = producers[index]
            return _digest(shape, node_hash(node), str(place))
        if index in model.inputs:
            return _digest(shape, f"input {model.inputs.index(index)}")
        return _digest(shape, "" if tensor.data is None else tensor.data.tobytes().hex())

    @cache
    def _node_hash(number: int) -> str:
        node = model.nodes[number]
        outputs = [repr(model.tensors[index].dims) for index in node.outputs]
        attributes = repr(sorted(node.attributes.items()))
        return _digest(node.op, attributes, *outputs, *(tensor_hash(index) for index in node.inputs))

    def node_hash(node: Node) -> str:
        return _node_hash(node.index)

    return sorted(f"{node.op} {node_hash(node)}" for node in model.nodes)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
