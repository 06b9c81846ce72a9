"""From the graph of a ``.ms`` file to the programs of training and prediction."""

from __future__ import annotations

from collections.abc import Iterable

from mindfl.errors import ModelFormatError
from mindfl.lite.graph import Graph
from mindfl.lite.lowering import LOWERINGS
from mindfl.lite.model import Node
from mindfl.lite.plan import Plan
from mindfl.lite.program import Program


def plan_training(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program of one training step with arena space from ``start`` on; its result is the loss.

    Raises :class:`ModelFormatError` for a model without one loss node and optimizer nodes, or with something the
    runtime does not do.
    """
    optimizers = graph.model.optimizer_nodes
    if graph.loss_node is None or not graph.model.parameters:
        raise ModelFormatError("this is not a training model: it has no loss or no optimizer node")
    changes = [node for node in graph.model.nodes if node.op == "Assign"]
    plan = _lowered(graph, [graph.loss_node, *optimizers, *changes], folded=folded, start=start)
    return plan.program(plan.value(graph.loss_node.outputs[0]).offset)


def plan_prediction(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program that computes the logits of one batch."""
    source = graph.producer.get(graph.logits.index)
    if source is None:
        raise ModelFormatError("the model computes no logits")
    plan = _lowered(graph, [source], folded=folded, start=start)
    logits = plan.value(graph.logits.index)
    if not logits.batched or len(logits.dims) != 2:
        raise ModelFormatError(f"the logits have shape {logits.dims}, expected (batch, classes)")
    return plan.program(logits.offset, logits.dims[1])


def _lowered(graph: Graph, goals: Iterable[Node], *, folded: bool, start: int) -> Plan:
    plan = Plan(graph, folded=folded, start=start)
    for node in graph.ordered(goals):
        if node.index not in plan.done:
            LOWERINGS[node.op](plan, node)
            plan.done.add(node.index)
    plan.check_shapes()
    return plan
