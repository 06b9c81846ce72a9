"""Algorithms of a user's own in the server: state, further arrays, restarts, and what they may do wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, scalar_dtypes

from mindfl.algorithms import Algorithm, Round, Step, zeros_like
from mindfl.algorithms.algorithm import Arrays
from mindfl.algorithms.checks import kept
from mindfl.algorithms.server_algorithm import EXTRA
from mindfl.errors import AlgorithmError, OptionError, StorageError
from mindfl.protocol import RequestFLJob, RequestGetModel, RequestUpdateModel
from mindfl.server import Coordinator, IterationRecord, ServerConfig
from mindfl.server.aggregate import initial_model
from mindfl.server.durable import DurableJob
from mindfl.server.iteration import Clock
from mindfl.server.snapshot import JobOrigin, Snapshot, read
from mindfl.server.state import JobState

CONFIG = ServerConfig(fl_iteration_num=9, start_fl_job_threshold=3)
INITIAL = {"w": np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10), "b": np.zeros(7, np.float32)}
SIZES = {"a": 3, "b": 5, "c": 11}


class Momentum(Algorithm):
    """FedAvgM with a further array that counts, on both ways."""

    def __init__(self, beta: float = 0.9) -> None:
        self.beta = beta

    def extras(self, model: Arrays) -> Arrays:
        return {"told": np.zeros(2, np.float32)}

    def state(self, model: Arrays) -> Arrays:
        return {**zeros_like(model), "seen": np.array([[0]])}

    def step(self, round: Round) -> Step:
        moved = {n: self.beta * round.state[n] + (round.average[n] - round.model[n]) for n in round.model}
        seen = round.state["seen"] + round.clients
        told = round.sent["told"] + round.extras["told"]
        model = {n: round.model[n] + moved[n] for n in moved}
        return Step(model=model, state={**moved, "seen": seen}, extras={"told": told})


def values(fl_id: str, iteration: int, extras: Sequence[str] = ("told",)) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng((ord(fl_id), iteration))
    found = {name: generator.normal(0, 3, array.size).astype(np.float32) for name, array in INITIAL.items()}
    return found | {EXTRA + name: generator.normal(0, 3, 2).astype(np.float32) for name in extras}


Handle = Callable[[Any], Any]


def take_part(handle: Handle, fl_ids: str, iteration: int, extras: Sequence[str] = ("told",)) -> list[Any]:
    started = []
    for fl_id in fl_ids:
        request = RequestFLJob(fl_name="x", fl_id=fl_id, data_size=SIZES[fl_id], timestamp="0")
        started.append(handle(request))
        upload(handle, fl_id, iteration, extras)
    return started


def upload(handle: Handle, fl_id: str, iteration: int, extras: Sequence[str] = ("told",)) -> None:
    weighted = {name: array * np.float32(SIZES[fl_id]) for name, array in values(fl_id, iteration, extras).items()}
    request = RequestUpdateModel(fl_name="x", fl_id=fl_id, iteration=iteration, feature_map=weighted, timestamp="0")
    assert handle(request).retcode == 200


def served(algorithm: Algorithm | None, **options: Any) -> tuple[Coordinator, list[IterationRecord], Handle]:
    records: list[IterationRecord] = []
    job = Coordinator(CONFIG, INITIAL, algorithm=algorithm, on_iteration_end=records.append, **options)
    return job, records, lambda request: job.handle(request, 0)


def bits(job: Coordinator) -> bytes:
    state = job.job.snapshot()
    return b"".join(each.tobytes() for _, each in sorted({**job.job.exchanged, **state.arrays}.items()))


def mean(iteration: int) -> dict[str, np.ndarray[Any, Any]]:
    total = sum(SIZES.values())
    parts = [(SIZES[fl_id], values(fl_id, iteration)) for fl_id in SIZES]
    names = parts[0][1]
    return {name: sum(size * found[name].astype(np.float64) for size, found in parts) / total for name in names}


def test_step_state_and_further_arrays_are_those_of_numpy_in_float64() -> None:
    job, records, handle = served(Momentum(0.5))
    model = {name: array.reshape(-1).astype(np.float64) for name, array in INITIAL.items()}
    moved: Any = dict.fromkeys(model, 0.0)
    told = np.zeros(2)
    for iteration in (1, 2, 3):
        answers = take_part(handle, "abc", iteration)
        np.testing.assert_allclose(answers[0].feature_map[EXTRA + "told"], told, rtol=1e-6)
        average = mean(iteration)
        moved = {name: 0.5 * moved[name] + average[name] - model[name] for name in model}
        model = {name: model[name] + moved[name] for name in model}
        told = told + average[EXTRA + "told"]
    assert job.model.keys() == INITIAL.keys() == records[-1].model.keys()
    for name in model:
        np.testing.assert_allclose(job.model[name], model[name], rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(job.job.arrays[name], moved[name], rtol=2e-6, atol=2e-6)
    assert job.job.arrays["seen"].tolist() == [[9]]
    given_later = handle(RequestGetModel(iteration=3)).feature_map
    np.testing.assert_allclose(given_later[EXTRA + "told"], told, rtol=1e-6)


def test_any_order_of_arrival_gives_the_same_bits() -> None:
    found = set()
    for order in ("abc", "cab", "bca"):
        job, _, handle = served(Momentum())
        for iteration in (1, 2):
            take_part(handle, order, iteration)
        found.add(bits(job))
    assert len(found) == 1


class Unchanged(Algorithm):
    """FedAvg by another name."""


@pytest.mark.parametrize("algorithm", [Algorithm(), Unchanged()])
def test_the_default_step_gives_the_bits_of_federated_averaging(algorithm: Algorithm) -> None:
    jobs = [served(None), served(algorithm)]
    for _, _, handle in jobs:
        take_part(handle, "abc", 1, ())
        take_part(handle, "bca", 2, ())
    (plain, _, _), (other, _, _) = jobs
    assert bits(plain) == bits(other)


class Durable:
    """A job in a folder."""

    def __init__(self, folder: Path, algorithm: Algorithm | None, **options: Any) -> None:
        self.folder = folder
        self.records: list[IterationRecord] = []
        self.clock = Clock()
        changes = {"clock": self.clock, "algorithm": algorithm, "on_iteration_end": self.records.append, **options}
        self.job = DurableJob(folder, CONFIG, INITIAL, **changes)

    def __enter__(self) -> Durable:
        return self

    def __exit__(self, *_: object) -> None:
        self.job.close()

    def handle(self, request: Any) -> Any:
        response, position = self.job.handle(request, self.clock.now_ms())
        future = self.job.durable(position)
        if future:
            future.result(60)
        return response

    def crash(self, to: Path) -> Path:
        """Copy the folder to ``to``, as a kill -9 would leave it now."""
        self.job._saver.submit(int).result(60)
        return Path(shutil.copytree(self.folder, to))


def test_a_job_that_was_killed_in_mid_iteration_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    with Durable(tmp_path / "whole", Momentum()) as server:
        for iteration in (1, 2, 3, 4):
            take_part(server.handle, "abc", iteration)
        expected = bits(server.job.coordinator)
    with Durable(tmp_path / "first", Momentum()) as server:
        take_part(server.handle, "abc", 1)
        take_part(server.handle, "abc", 2)
        take_part(server.handle, "ab", 3)
        crashed = server.crash(tmp_path / "second")
    with Durable(crashed, Momentum()) as server:
        take_part(server.handle, "c", 3)
        take_part(server.handle, "bca", 4)
        assert bits(server.job.coordinator) == expected
    with Durable(tmp_path / "second", Momentum()) as server:
        assert bits(server.job.coordinator) == expected


def test_a_stored_job_is_not_given_to_another_algorithm(tmp_path: Path) -> None:
    Durable(tmp_path / "s", Momentum(0.5)).job.close()
    with pytest.raises(StorageError, match=r"begun differently: algorithm Momentum beta=0\.5 -> Momentum beta=0\.9$"):
        Durable(tmp_path / "s", Momentum())
    with pytest.raises(StorageError, match=r"differently: algorithm Momentum beta=0\.5 -> FedAvg$"):
        Durable(tmp_path / "s", None)


def test_a_new_instance_begins_with_the_latest_model_and_a_new_state(tmp_path: Path) -> None:
    with Durable(tmp_path / "s", Momentum()) as server:
        take_part(server.handle, "abc", 1)
        job = server.job.coordinator
        model = {name: array.copy() for name, array in job.model.items()}
        job.job.new_instance(replace(CONFIG, client_epoch_num=7), "second", server.clock.now_ms())
        assert job.job.arrays["seen"] == 0 and not job.job.exchanged[EXTRA + "told"].any()
        assert all((job.model[name] == model[name]).all() for name in model)
    with Durable(tmp_path / "s", Momentum()) as server:
        assert server.job.coordinator.job.arrays["seen"] == 0


def test_constant_weights_keep_their_values() -> None:
    job, _, handle = served(Momentum(), constant={"w"})
    take_part(handle, "abc", 1)
    assert job.model["w"].tolist() == INITIAL["w"].reshape(-1).tolist()
    assert job.model["b"].any()


class Faulty(Algorithm):
    """Does what it is told in its second step."""

    def __init__(self, act: Callable[[Round], Any]) -> None:
        self.act = act

    def step(self, round: Round) -> Any:
        return self.act(round) if round.iteration == 2 else super().step(round)


def _changes_itself(round: Round) -> Step:
    vars(FAULTY)["count"] = 1
    return Step(model=round.average)


def _model(round: Round, **changes: Any) -> Step:
    return Step(model={**round.average, **changes})


CAUSES: dict[str, Callable[[Round], Any]] = {
    "step: ZeroDivisionError: division by zero": lambda round: 1 / 0,
    "step: ValueError: assignment destination is read-only": lambda round: round.model["b"].__setitem__(0, 1.0),
    "step returned dict, not Step": lambda round: dict(round.average),
    "step changed its attribute count": _changes_itself,
    "model is list, not arrays by name": lambda round: Step(model=[]),  # type: ignore[arg-type]
    "extras is NoneType, not arrays by name": lambda round: Step(model=round.average, extras=None),  # type: ignore[arg-type]
    "model: 'b' is no array: setting an array element with a sequence": lambda round: _model(round, b=[[1], [1, 2]]),
    "model lacks b": lambda round: Step(model={"w": round.average["w"]}),
    "model has an unknown array c": lambda round: _model(round, c=np.ones(3)),
    "model: b has 1 elements, not 7": lambda round: _model(round, b=np.ones(1)),
    "model: b is not finite": lambda round: _model(round, b=np.full(7, np.nan)),
    "model: w is not finite": lambda round: _model(round, w=np.full(60, 1e300)),
    "model: 'b' is not a non-empty array of numbers": lambda round: _model(round, b=["x"] * 7),
    "extras has an unknown array z": lambda round: Step(model=round.average, extras={"z": np.ones(3)}),
    "state: s is not finite": lambda round: Step(model=round.average, state={"s": np.array([np.inf])}),
    "state: 's' is not a non-empty array of numbers": lambda round: Step(
        model=round.average, state={"s": np.array([{}])}
    ),
}
FAULTY: Algorithm = Algorithm()


@pytest.mark.parametrize("cause", CAUSES)
def test_a_step_that_fails_ends_its_iteration_with_one_error_and_changes_nothing(cause: str) -> None:
    global FAULTY
    FAULTY = Faulty(CAUSES[cause])
    job, records, handle = served(FAULTY)
    take_part(handle, "abc", 1, ())
    before = bits(job)
    take_part(handle, "abc", 2, ())
    assert (records[1].valid, bits(job)) == (False, before)
    error = records[1].error
    assert isinstance(error, AlgorithmError) and (error.iteration, error.code) == (2, "E-ALGORITHM")
    assert str(error) == records[1].reason
    assert records[1].reason.startswith(f"algorithm Faulty act=function failed in iteration 2: {cause}")
    if "attribute" not in cause:
        take_part(handle, "abc", 3, ())
        assert records[2].valid and records[2].error is None


class BadStart(Algorithm):
    """Has further arrays that cannot be sent."""

    def extras(self, model: Arrays) -> Arrays:
        return {"far": np.array([np.nan])}


def test_what_is_wrong_before_the_first_iteration_is_said_before_it() -> None:
    with pytest.raises(AlgorithmError, match="algorithm BadStart failed before the first iteration: extras: far is"):
        Coordinator(CONFIG, INITIAL, algorithm=BadStart())
    with pytest.raises(OptionError, match="reserved"):
        Coordinator(CONFIG, {EXTRA + "told": np.ones(2, np.float32)}, algorithm=Momentum())


numbers = scalar_dtypes().filter(lambda kind: kind.kind in "biuf" and kind.byteorder != ">")


@given(st.dictionaries(st.text(min_size=1), numbers.flatmap(lambda kind: arrays(kind, st.tuples(st.integers(1, 4))))))
def test_a_snapshot_holds_the_state_to_the_bit(state: dict[str, np.ndarray[Any, Any]]) -> None:
    layout, model = initial_model(INITIAL)
    counted = {1: frozenset({b"0" * 16, b"1" * 16})}
    whole = Snapshot(JobOrigin(bytes(16), CONFIG, "m"), 7, JobState(CONFIG, "i", 2, True, {1: model}, counted, state))
    found = read(b"".join(map(bytes, whole.parts())), "here", layout).state
    assert found.counted == counted and found.arrays.keys() == state.keys()
    for name, array in state.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        assert found.arrays[name].tobytes() == array.tobytes()
        assert found.arrays[name].flags.aligned and not found.arrays[name].flags.writeable


def test_a_state_lies_in_memory_as_it_is_read_back() -> None:
    """The last bits of sums over an array depend on the order in which it lies."""
    columns = np.asfortranarray(np.random.default_rng(0).normal(size=(30, 50)))
    (found,) = kept({"s": columns}, "state", lambda cause, hint: AssertionError(cause)).values()
    assert found.flags.c_contiguous and not columns.flags.c_contiguous
