"""An operator as a user writes it, here in the place of mindfl's own: ``nn.Sigmoid`` and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.lite import Node, Operator

SIGMOID = 2  # MindSpore Lite's number of this activation


class Sigmoid(Operator):
    """y = 1 / (1 + exp(-x))."""

    op, primitives = "Activation", ("Sigmoid",)

    def takes(self, node: Node) -> bool:
        return node.integer("type") == SIGMOID

    def run(self, node: Node, x: Any) -> Any:
        return 1 / (1 + np.exp(-x))


class SigmoidGrad(Operator):
    """dx = dy * y * (1 - y). The output comes first, other than with ReLU."""

    op, primitives = "ActivationGrad", ("SigmoidGrad",)

    def takes(self, node: Node) -> bool:
        return node.integer("type") == SIGMOID

    def run(self, node: Node, y: Any, dy: Any) -> Any:
        return dy * y * (1 - y)


sigmoid = (Sigmoid(), SigmoidGrad())
