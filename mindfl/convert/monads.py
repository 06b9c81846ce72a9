"""Takes the monads out of a graph.

Operators with side effects, such as optimizers and BatchNorm, are ordered in a MINDIR by values without content, the
monads, which ``UpdateState``, ``Load`` and ``Depend`` pass on. The converter fails where two BatchNorms follow each
other. A device runs what changes parameters after everything else, so that the order may go; what only the monads
reached is made a part of the output.
"""

from __future__ import annotations

from mindfl.convert.graph_editor import GraphEditor
from mindfl.convert.mindir import OPTIMIZER_STATE, Proto

#: operators that change a parameter when all else is done
CHANGING = (*OPTIMIZER_STATE, "Assign")
_OF_LOSS = "SparseSoftmaxCrossEntropyWithLogits"


def remove_monads(editor: GraphEditor) -> None:
    """Take the monads out of a graph with BatchNorm, and let its output depend on all that changes a parameter.

    Other graphs stay as MindSpore 2.0.0 exports them.
    """
    if not any(editor.nodes("BatchNorm")):
        return
    monads = {node.output[0] for node in editor.nodes("UpdateState")}
    monads |= {name for name in editor.constants if editor.is_monad(name)}
    passed = {
        node.output[0]: node.input[0]
        for node in editor.nodes("Load", "Depend")
        if len(node.input) == 2 and node.input[1] in monads
    }
    gone = monads.union(passed)
    editor.replace_nodes({name: () for name in gone if name not in editor.constants})
    editor.replace_values(passed)
    for node in editor.graph.node:
        if any(value in monads for value in node.input):
            node.input[:] = [value for value in node.input if value not in monads]
    _keep_changes(editor)


def let_sums_read_gradients(editor: GraphEditor) -> None:
    """Let sums of gradients read that of the cross entropy itself, where they read it through a ``Depend``.

    MindSpore lets the gradient depend on the loss. Behind a ``Depend`` in a sum's tuple the converter knows no shape,
    and without shapes it takes matrices for images.
    """
    losses = {node.output[0] for node in editor.nodes(_OF_LOSS)}
    passed = {
        node.output[0]: node.input[0]
        for node in editor.nodes("Depend")
        if len(node.input) == 2 and node.input[1] in losses
    }
    summed = {node.input[0] for node in editor.nodes("AddN")}
    for node in editor.nodes("MakeTuple"):
        if node.output[0] in summed:
            node.input[:] = [passed.get(value, value) for value in node.input]


def _keep_changes(editor: GraphEditor) -> None:
    """Let the output depend on the nodes that change a parameter and that it does not reach."""
    output = editor.graph.output[0]
    reached = _reached(editor, output.name)
    lost = [node for node in editor.nodes(*CHANGING) if node.output[0] not in reached]
    if not lost:
        return
    last = lost[-1]
    together = editor.new_node(last, "MakeTuple", [node.output[0] for node in lost])
    depend = editor.new_node(last, "Depend", [output.name, together.output[0]])
    editor.graph.node.extend([together, depend])
    output.name = depend.output[0]


def _reached(editor: GraphEditor, output: str) -> set[str]:
    producers: dict[str, Proto] = {name: node for node in editor.graph.node for name in node.output}
    reached: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in reached and name in producers:
            reached.add(name)
            waiting.extend(producers[name].input)
    return reached
