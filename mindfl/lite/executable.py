"""A model planned for execution: what all its sessions share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mindfl.lite.correction import CorrectionPlan
from mindfl.lite.graph import Graph
from mindfl.lite.model import LiteModel
from mindfl.lite.ops import learning_rate_input
from mindfl.lite.planning import plan_prediction, plan_training
from mindfl.lite.program import Program


@dataclass(frozen=True)
class Programs:
    """The programs of one model for one form of input, with one arena for both."""

    train: Program | None
    predict: Program
    correction: CorrectionPlan | None
    arena_size: int

    @classmethod
    def of(cls, graph: Graph, *, folded: bool, training: bool) -> Programs:
        """Plan training (where the model has it, and ``training`` is set) and prediction."""
        train = None
        start = graph.constants_size
        if training and graph.model.optimizer_nodes:
            train = plan_training(graph, folded=folded, start=start)
            start = train.end
        predict = plan_prediction(graph, folded=folded, start=start)
        sizes = {name: tensor.size for name, tensor in graph.model.parameters.items()}
        correction = CorrectionPlan(train, sizes, predict.end) if train is not None else None
        return cls(train, predict, correction, correction.end if correction is not None else predict.end)


class Executable:
    """A model planned once; any number of sessions (one per thread) run it.

    Without ``training`` it predicts only: for a model whose training part has what the runtime lacks.
    """

    def __init__(self, model: LiteModel, *, training: bool = True) -> None:
        self.model = model
        self._training = training
        self.graph = Graph(model)
        self._programs: dict[bool, Programs] = {}
        self._planning = threading.Lock()

    def programs(self, *, folded: bool) -> Programs:
        """Return the programs for samples with all channels (``folded=False``) or with one that stands for all."""
        with self._planning:
            if folded not in self._programs:
                self._programs[folded] = Programs.of(self.graph, folded=folded, training=self._training)
            return self._programs[folded]

    @cached_property
    def constants(self) -> NDArray[np.float32]:
        """The float constants of the file as they lie at the head of an arena."""
        head = np.zeros(self.graph.constants_size, np.float32)
        for index, place in self.graph.constants.items():
            data = self.model.tensors[index].data
            if data is not None:
                head[place.offset : place.offset + place.size] = data.ravel()
        return head

    @cached_property
    def state(self) -> tuple[slice, ...]:
        """Where everything but the weights lies in ``constants``."""
        weights = {tensor.index for tensor in self.model.parameters.values()}
        places = [place for index, place in self.graph.constants.items() if index not in weights]
        return tuple(slice(place.offset, place.offset + place.size) for place in places)

    @cached_property
    def learning_rates(self) -> tuple[int, ...]:
        """Arena offsets of the learning-rate constants."""
        places = ((node, learning_rate_input(node.op)) for node in self.model.optimizer_nodes)
        indices = {node.inputs[place] for node, place in places if place is not None}
        return tuple(self.graph.constants[index].offset for index in sorted(indices & self.graph.constants.keys()))
