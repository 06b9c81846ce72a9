"""Threads that train one step together: the bits of one thread, within the memory that was planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_bounds import check_program, watched

from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Session, step_shares
from mindfl.lite.executable import plan_training
from mindfl.lite.model_graph import Graph
from mindfl.lite.ops import INSTRUCTIONS


def trained(model: LiteModel, threads: int, steps: int = 2) -> dict[str, Any]:
    """Return losses and weights after steps on two batches of noise."""
    session = Session(model, threads=threads)
    draw = np.random.default_rng(3)
    samples = tuple(
        draw.standard_normal((2 * session.batch_size, *each.dims[1:])).astype(np.float32)
        if each.dtype == np.float32
        else draw.integers(0, 2, (2 * session.batch_size, *each.dims[1:]), np.int32)
        for each in session.executable.graph.samples
    )
    labels = draw.integers(0, session.classes, 2 * session.batch_size, np.int32)
    losses = session.train(samples if len(samples) > 1 else samples[0], labels, steps=steps)
    return {"losses": losses, **session.get_weights()}


def same(model: LiteModel, threads: int) -> None:
    expected = trained(model, 1)
    for name, values in trained(model, threads).items():
        assert values.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("threads", [2, 3])
def test_the_bits_are_those_of_one_thread(
    threads: int, converted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_shares, "_LEAST", 1)
    same(LiteModel.load(converted()), threads)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["leaf_cnn:dense=32", "resnet8:width=4", "mobilenet_v2:width=0.1", "albert:hidden=32,layers=1"]
)
def test_the_bits_of_shipped_networks_are_those_of_one_thread(
    network: str, shipped: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_shares, "_LEAST", 1)
    same(LiteModel.load(shipped(network)), 3)


@pytest.mark.parametrize("threads", [2, 5])
def test_shares_lie_in_the_planned_memory_and_are_the_whole(
    threads: int, converted: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph(LiteModel.load(converted()))
    with watched(graph) as buffers:
        program = plan_training(graph, folded=False, start=graph.constants_size)
    monkeypatch.setattr(step_shares, "_LEAST", 1)
    parts = step_shares.divided(program.code, program.table, threads, 0, program.end)
    names = list(INSTRUCTIONS)
    column = 1 + INSTRUCTIONS["CONV"].operands.index("channels")
    filters = [sum(row[column] for row in code.tolist() if names[row[0]] == "CONV") for code in (program.code, *parts)]
    assert len(parts) > 1
    assert filters[0] == sum(filters[1:])
    for part in parts:
        check_program(replace(program, code=part), buffers, program.end)


def test_a_network_without_large_instructions_is_not_divided(converted: Callable[..., Path]) -> None:
    graph = Graph(LiteModel.load(converted()))
    program = plan_training(graph, folded=True, start=graph.constants_size)
    (code,) = step_shares.divided(program.code, program.table, 2, 0, program.end)
    assert np.array_equal(code, program.code)


def test_a_step_needs_a_thread(converted: Callable[..., Path]) -> None:
    with pytest.raises(OptionError, match="threads must be at least 1, got 0"):
        Session(LiteModel.load(converted()), threads=0)
