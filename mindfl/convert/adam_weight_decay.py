"""AdamWeightDecay: the converter is given Adam, and the nodes become AdamWeightDecay again in the converted file.

The library has the operator, but infers only the first of its three outputs, and aborts on the others.
"""

from __future__ import annotations

import struct

from mindfl.convert.mindir import Proto, operators
from mindfl.convert.written_out import NodeWriter, written_out
from mindfl.errors import ModelFormatError
from mindfl.lite.model import LiteModel
from mindfl.lite.schema import OPERATORS
from mindfl.protocol.flatbuf import Table

_OPERATOR = "AdamWeightDecay"
_NODES, _PRIMITIVE, _INPUTS, _TAG = 6, 2, 3, 0  # slots of the file's tables
#: places of the Adam node's inputs, in the order of AdamWeightDecay
_ORDER = (0, 1, 2, 5, 6, 7, 8, 3, 9)


@written_out(_OPERATOR)
def _as_adam(writer: NodeWriter) -> list[str]:
    """Adam with the decay in the places of its powers of beta."""
    weight, mean, variance, rate = writer.node.input[:4]
    beta1, beta2, epsilon, decay = (writer.constant(writer.number(place)) for place in range(4, 8))
    order = [name for name in writer.node.input[9:] if writer.editor.is_tensor(name) or writer.editor.is_monad(name)]
    inputs = (weight, mean, variance, decay, decay, rate, beta1, beta2, epsilon, writer.node.input[8])
    return [writer.add("Adam", *inputs, *order, use_locking=False, use_nesterov=False)]


def with_adam_weight_decay(content: bytes, source: Proto) -> bytes:
    """Return the converted file with AdamWeightDecay where the MINDIR ``source`` has it.

    A file that cannot be read is returned as it is.
    """
    types = operators(source)
    nodes = [node for node in source.graph.node if types[node.output[0]] == _OPERATOR]
    weights = {node.input[0].rpartition(":")[2] for node in nodes}
    if not weights:
        return content
    try:
        model = LiteModel.from_bytes(content)
    except ModelFormatError:
        return content
    tag = next(tag for tag, operator in OPERATORS.items() if operator.name == _OPERATOR)
    changed = bytearray(content)
    for node, table in zip(model.nodes, Table.root(content).tables(_NODES), strict=True):
        primitive = table.table(_PRIMITIVE)
        if node.op == "Adam" and primitive is not None and model.tensors[node.inputs[0]].name in weights:
            changed[primitive.place(_TAG)] = tag
            inputs = [node.inputs[place] for place in _ORDER]
            # The vector keeps its bytes, and loses its last item.
            struct.pack_into(f"<{1 + len(inputs)}I", changed, table.position(_INPUTS) - 4, len(inputs), *inputs)
    return bytes(changed)
