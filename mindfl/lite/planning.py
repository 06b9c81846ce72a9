"""From the graph of a ``.ms`` file to the programs of training and prediction."""

from __future__ import annotations

from collections.abc import Iterable

from mindfl.errors import ModelFormatError
from mindfl.lite.graph import Graph
from mindfl.lite.model import OWN_OPERATORS, LiteModel, Node, made, refuse_unknown
from mindfl.lite.ops.elements import mean_of_all
from mindfl.lite.ops.registry import lowering
from mindfl.lite.plan import Plan
from mindfl.lite.program import Program
from mindfl.lite.shapes import core


def plan_training(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program of one training step with arena space from ``start`` on; its result is the loss.

    Raises :class:`ModelFormatError` for a model without one loss node and optimizer nodes, or with something the
    runtime does not do.
    """
    optimizers = graph.model.optimizer_nodes
    if graph.loss is None or not graph.model.parameters:
        raise ModelFormatError("this is not a training model: it has no loss or no optimizer node")
    changes = [node for node in graph.model.nodes if node.op == "Assign"]
    plan = _lowered(graph, [graph.producer[graph.loss], *optimizers, *changes], folded=folded, start=start)
    return plan.program(mean_of_all(plan, plan.value(graph.loss)))


def plan_prediction(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program that computes the logits of one batch."""
    source = graph.producer.get(graph.logits.index)
    if source is None:
        raise ModelFormatError("the model computes no logits")
    plan = _lowered(graph, [source], folded=folded, start=start)
    logits = plan.value(graph.logits.index)
    if not logits.batched or len(core(logits.dims[1:])) > 1:
        raise ModelFormatError(
            f"the logits (tensor {graph.logits.name}) have shape {logits.dims}, expected (batch, classes)"
        )
    return plan.program(logits.offset, logits.size)


def _lowered(graph: Graph, goals: Iterable[Node], *, folded: bool, start: int) -> Plan:
    order = graph.ordered(goals)
    refuse_unknown(graph.model, order)
    plan = Plan(graph, folded=folded, start=start)
    for node in order:
        if node.index not in plan.done:
            lower = lowering(node)
            assert lower is not None
            try:
                lower(plan, node)
            except ModelFormatError as error:
                raise _located(graph.model, node, error) from None
            plan.done.add(node.index)
    return plan


def _located(model: LiteModel, node: Node, error: ModelFormatError) -> ModelFormatError:
    """Return an error that names the node and what it makes."""
    text = str(error) if node.label in str(error) else f"node {node.label}: {error}"
    return ModelFormatError(f"{text} ({made(model, node)})", hint=error.hint or OWN_OPERATORS)
