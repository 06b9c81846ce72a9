"""Results do not depend on what a library did to the arithmetic of the thread."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mindfl.float_environment import default_float_environment
from mindfl.lite import LiteModel, Session
from mindfl.models import import_mindspore
from mindfl.sim import FederatedLeNetJob
from mindfl.sim.callbacks import Silent

_MATHEMATICS = ctypes.CDLL("libm.so.6")
#: bits of the control word of SSE: results that are subnormal, and operands, are taken for zero
_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 1 << 15, 1 << 6


def has_subnormals() -> bool:
    """Return whether this thread computes with subnormal numbers."""
    return bool((np.full(8, 1e-40, np.float32) * np.float32(0.5)).all())


@pytest.fixture
def subnormals_are_zero() -> Iterator[None]:
    """Take subnormal numbers for zero in this thread."""
    before, changed = (np.zeros(8, np.uint32) for _ in range(2))
    _MATHEMATICS.fegetenv(before.ctypes.data_as(ctypes.c_void_p))
    changed[:] = before
    changed[7] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
    _MATHEMATICS.fesetenv(changed.ctypes.data_as(ctypes.c_void_p))
    assert not has_subnormals()
    yield
    _MATHEMATICS.fesetenv(before.ctypes.data_as(ctypes.c_void_p))
    assert has_subnormals()


def test_the_environment_is_that_of_a_new_program_and_then_the_earlier_one(subnormals_are_zero: None) -> None:
    with pytest.raises(KeyError), default_float_environment():
        assert has_subnormals()
        with ThreadPoolExecutor() as threads:
            assert threads.submit(has_subnormals).result()
        raise KeyError
    assert not has_subnormals()


def trained(model: Path, threads: int) -> list[bytes]:
    """Return the weights after steps with images so dark that gradients are subnormal."""
    draw = np.random.default_rng(0)
    session = Session(LiteModel.load(model), threads=threads)
    with default_float_environment():
        images = draw.random((40, 32, 32, 3), np.float32) * np.float32(1e-38)
    session.set_learning_rate(1.0)
    session.train(images, draw.integers(0, 62, 40, np.int32))
    return [value.tobytes() for value in session.get_weights().values()]


def test_a_session_trains_to_the_same_bits(
    models: Path, subnormals_are_zero: None, request: pytest.FixtureRequest
) -> None:
    found = [trained(models / "lenet_train.ms", threads) for threads in (1, 2)]
    with default_float_environment():
        expected = trained(models / "lenet_train.ms", 1)
    assert found == [expected, expected]


def test_a_job_gives_the_same_bits(models: Path, writers: Path, tmp_path: Path, subnormals_are_zero: None) -> None:
    def run(name: str) -> str:
        folders = {"train_dataset": writers, "train_model_path": models, "work_dir": tmp_path / name}
        small = {"client_num": 2, "iterations": 2, "epochs": 1, "workers": 2, "per_client_models": False}
        return FederatedLeNetJob(**folders, **small, reporter=Silent()).run().hash

    found = run("here")
    with default_float_environment():
        assert run("expected") == found


@pytest.mark.slow
def test_mindspores_graphs_leave_the_arithmetic_as_it_was() -> None:
    from mindfl.export.graph_mode import graph_mode

    mindspore = import_mindspore()
    with graph_mode("CPU"):
        network = mindspore.nn.SequentialCell(mindspore.nn.Dense(8, 4), mindspore.nn.Tanh())
        network(mindspore.Tensor(np.ones((2, 8), np.float32))).asnumpy()
        changed = np.zeros(8, np.uint32)
        _MATHEMATICS.fegetenv(changed.ctypes.data_as(ctypes.c_void_p))
        changed[7] |= _FLUSH_TO_ZERO  # as some of its operators do
        _MATHEMATICS.fesetenv(changed.ctypes.data_as(ctypes.c_void_p))
    assert has_subnormals()
