"""The gradients of a deep network with BatchNorm and ReLU6, against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from lite_bounds import sharing_watched
from lite_numpy import NumpyModel

from mindfl.lite import LiteModel, Session, executable
from mindfl.lite.plan import Plan

pytestmark = pytest.mark.slow


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Plan]]:
    """The plans that are made: they know where each tensor lies, as none shares its memory."""
    made: list[Plan] = []

    class Recorded(Plan):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(executable, "Plan", Recorded)
    with sharing_watched(apart=True):
        yield made


def test_gradients_of_mobilenet_are_those_of_float64(shipped: Callable[[str], Path], plans: list[Plan]) -> None:
    """Float64 takes the side of 0 and 6 on which the runtime's values lie.

    Of half a million inputs of ReLU6 one or two lie within a rounding error of a kink. Each that falls on the other
    side changes gradients by a hundredth, in MindSpore and PyTorch as here.
    """
    lite = LiteModel.load(shipped("mobilenet_v2:width=0.1"))
    session = Session(lite)
    for seed in range(3):
        draw = np.random.default_rng(seed)
        images, labels = draw.random((4, 32, 32, 3), np.float32), draw.integers(0, 10, 4, np.int32)
        session.reset()
        loss = session.train_step(images, labels)
        held = _held(session, plans)
        exact = NumpyModel(lite)
        exact.rounded = {node.inputs[0]: held(node.inputs[0]) for node in lite.nodes if node.op == "Activation"}
        np.testing.assert_allclose(loss, exact.step(images, labels), rtol=1e-5)
        assert exact.crossed < 10 and exact.farthest < 1e-4
        for node in lite.optimizer_nodes:
            # After the first step from zero momentum is the gradient.
            gradient = exact.constants[node.inputs[1]]
            near = 1e-4 * max(np.abs(gradient).max(), 0.1)
            name = lite.tensors[node.inputs[0]].name
            np.testing.assert_allclose(held(node.inputs[1]), gradient, rtol=0, atol=near, err_msg=name)


def _held(session: Session, plans: list[Plan]) -> Callable[[int], np.ndarray]:
    """Return a function that reads a tensor as it was after the last step."""
    graph = session.executable.graph
    (plan,) = (plan for plan in plans if plan.graph is graph and plan.training and not plan.folded)

    def read(tensor: int) -> np.ndarray:
        value, lanes = plan.values[tensor], plan.lanes if plan.values[tensor].batched else 1
        rows = session._arena[value.offset : value.offset + value.size * lanes].reshape(-1, lanes)
        rows = rows[:, : plan.batch].T if value.batched else rows
        return rows.reshape(session.model.tensors[tensor].dims)

    return read
