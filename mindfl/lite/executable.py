"""A model planned for execution: from the graph of a ``.ms`` file to programs, which all its sessions share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import ModelFormatError
from mindfl.lite.arena import share_memory
from mindfl.lite.correction import CorrectionPlan
from mindfl.lite.model import OWN_OPERATORS, UNCONVERTED, LiteModel, Node, made, refuse_unknown
from mindfl.lite.model_graph import Graph
from mindfl.lite.ops import learning_rate_input
from mindfl.lite.ops.reductions import mean_of_all
from mindfl.lite.ops.registry import lowering
from mindfl.lite.plan import Plan
from mindfl.lite.program import Program


def plan_training(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program of one training step with arena space from ``start`` on; its result is the loss.

    Raises :class:`ModelFormatError` for a model without one loss node and optimizer nodes, or with something the
    runtime does not do.
    """
    optimizers = graph.model.optimizer_nodes
    if graph.loss is None or not graph.model.parameters:
        raise ModelFormatError("this is not a training model: it has no loss or no optimizer node")
    changes = [node for node in graph.model.nodes if node.op == "Assign"]
    plan = _lowered(
        graph, [graph.producer[graph.loss], *optimizers, *changes], folded=folded, start=start, training=True
    )
    return plan.program(mean_of_all(plan, plan.value(graph.loss)))


def plan_prediction(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program that computes the logits of one batch."""
    source = graph.producer.get(graph.logits.index)
    if source is None:
        raise ModelFormatError("the model computes no logits")
    plan = _lowered(graph, [source], folded=folded, start=start, training=False)
    predictions = plan.samples_last(graph.logits.index)
    if predictions is None:
        raise ModelFormatError(
            f"the predictions (tensor {graph.logits.name}) have shape {plan.value(graph.logits.index).dims},"
            f" whose first dimension is not the batch of {graph.batch} or a multiple of it",
            hint=UNCONVERTED,
        )
    return plan.program(predictions.offset, predictions.size)


def plan_loss(graph: Graph, *, folded: bool, start: int) -> Program:
    """Return the program that computes the loss of one batch, and trains nothing."""
    assert graph.loss is not None, "the model trains"
    plan = _lowered(graph, [graph.producer[graph.loss]], folded=folded, start=start, training=False)
    return plan.program(mean_of_all(plan, plan.value(graph.loss)))


def _lowered(graph: Graph, goals: Iterable[Node], *, folded: bool, start: int, training: bool) -> Plan:
    order = graph.ordered(goals)
    refuse_unknown(graph.model, order)
    plan = Plan(graph, folded=folded, start=start, training=training)
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
    """Return an error that names the node and its output."""
    text = str(error) if node.label in str(error) else f"node {node.label}: {error}"
    return ModelFormatError(f"{text} ({made(model, node)})", hint=error.hint or OWN_OPERATORS)


@dataclass(frozen=True)
class Programs:
    """The programs of one model for one form of input, with one arena for all.

    ``loss`` is there where nothing but the model itself tells the loss of its predictions: for a regression.
    """

    train: Program | None
    predict: Program
    loss: Program | None
    correction: CorrectionPlan | None
    arena_size: int

    @classmethod
    def of(cls, graph: Graph, *, folded: bool, training: bool) -> Programs:
        """Plan training (if the model has it, and ``training`` is set) and prediction."""
        plans = [plan_prediction]
        if training and graph.model.optimizer_nodes:
            plans.insert(0, plan_training)
            if graph.label_kind == "targets":
                plans.append(plan_loss)
        start = graph.constants_size
        planned, end = share_memory([plan(graph, folded=folded, start=start) for plan in plans], start)
        if len(planned) == 1:
            return cls(None, planned[0], None, None, end)
        train, predict, loss = (*planned, None)[:3]
        assert train is not None and predict is not None
        sizes = {name: tensor.size for name, tensor in graph.model.parameters.items()}
        correction = CorrectionPlan(train, sizes, end)
        return cls(train, predict, loss, correction, correction.end)

    @property
    def all(self) -> tuple[Program, ...]:
        """The programs that there are."""
        return tuple(program for program in (self.train, self.predict, self.loss) if program is not None)


class Executable:
    """A model planned once; any number of sessions (one per thread) run it.

    Without ``training`` it only predicts: for a model whose training part uses operators that the runtime lacks.
    """

    def __init__(self, model: LiteModel, *, training: bool = True) -> None:
        self.model = model
        self._training = training
        self.graph = Graph(model)
        self._programs: dict[bool, Programs] = {}
        self._planning = threading.Lock()

    def programs(self, *, folded: bool) -> Programs:
        """Return the programs for samples with all channels, or with equal channels ``folded`` into one."""
        with self._planning:
            if folded not in self._programs:
                self._programs[folded] = Programs.of(self.graph, folded=folded, training=self._training)
            return self._programs[folded]

    @cached_property
    def constants(self) -> NDArray[np.float32]:
        """The float constants of the file, in the layout of an arena's head."""
        head = np.zeros(self.graph.constants_size, np.float32)
        for index, place in self.graph.constants.items():
            data = self.model.tensors[index].data
            if data is not None:
                head[place.offset : place.offset + place.size] = data.ravel()
        return head

    @cached_property
    def weights(self) -> Mapping[str, int]:
        """Tensors of the trained parameters and running statistics by name, in ascending order of name."""
        tensors = {**self.model.parameters, **self.model.statistics}
        return {name: tensors[name].index for name in self.model.weights}

    @cached_property
    def state(self) -> tuple[slice, ...]:
        """The slices of ``constants`` that hold no weights."""
        weights = set(self.weights.values())
        places = [place for index, place in self.graph.constants.items() if index not in weights]
        return tuple(slice(place.offset, place.offset + place.size) for place in places)

    @cached_property
    def learning_rates(self) -> tuple[int, ...]:
        """Arena offsets of the learning-rate constants."""
        places = ((node, learning_rate_input(node.op)) for node in self.model.optimizer_nodes)
        indices = {node.inputs[place] for node, place in places if place is not None}
        return tuple(self.graph.constants[index].offset for index in sorted(indices & self.graph.constants.keys()))
