"""Algorithms that see single uploads in the server: what they are given, crashes, edges, and what is freed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from test_server_algorithm import CONFIG, INITIAL, SIZES, Durable, Handle, bits, served, take_part, upload, values

from mindfl.algorithms import Algorithm, Krum, Median, MultiKrum, Round, Step
from mindfl.algorithms.algorithm import Arrays
from mindfl.algorithms.server_algorithm import EXTRA
from mindfl.errors import AlgorithmError, OptionError
from mindfl.protocol import RequestFLJob, RequestUpdateModel
from mindfl.server import Coordinator, EdgeCoordinator, IterationRecord

Floats = np.ndarray[Any, Any]


class Watching(Algorithm):
    """Tells the test what it was given, and returns the median of the weights and of the further array."""

    needs_uploads = True
    rounds: ClassVar[list[Round]] = []

    def extras(self, model: Arrays) -> Arrays:
        return {"told": np.zeros(2, np.float32)}

    def step(self, round: Round) -> Step:
        self.rounds.append(round)
        model = {n: np.median([each.weights[n] for each in round.uploads], axis=0) for n in round.model}
        return Step(model=model, extras={"told": np.median([each.extras["told"] for each in round.uploads], axis=0)})


def test_a_step_sees_each_upload_in_the_order_of_the_clients_ids() -> None:
    for order in ("abc", "cab"):
        Watching.rounds.clear()
        job, _, handle = served(Watching())
        take_part(handle, order, 1)
        (round,) = Watching.rounds
        assert [(each.client, each.samples) for each in round.uploads] == list(SIZES.items())
        for each in round.uploads:
            sent = values(each.client, 1)
            assert each.weights.keys() == INITIAL.keys()
            for name, array in {**each.weights, EXTRA + "told": each.extras["told"]}.items():
                np.testing.assert_allclose(array, sent[name], rtol=2e-7)
                assert array.dtype == np.float32 and not array.flags.writeable
        middle = np.median([values(fl_id, 1)["b"] for fl_id in SIZES], axis=0)
        np.testing.assert_allclose(job.model["b"], middle, rtol=2e-7)
        assert job.job.exchanged[EXTRA + "told"].any()


def test_uploads_are_freed_when_their_iteration_ends() -> None:
    job, _, handle = served(Median())
    for fl_id in "abc":
        handle(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=SIZES[fl_id], timestamp="0"))
    upload(handle, "a", 1, ())
    kept = weakref.ref(job.job.current.kept["a"])
    upload(handle, "b", 1, ())
    assert kept() is not None
    upload(handle, "c", 1, ())
    gc.collect()
    assert kept() is None and job.iteration == 2
    plain, _, handle = served(None)
    handle(RequestFLJob(fl_name="x", fl_id="a", data_size=3, timestamp="0"))
    upload(handle, "a", 1, ())
    assert not plain.job.current.kept


def test_weights_that_are_constant_or_were_not_uploaded_are_those_of_the_model() -> None:
    Watching.rounds.clear()
    job, _, handle = served(Watching(), constant={"w"})
    take_part(handle, "ab", 1)
    handle(RequestFLJob(fl_name="x", fl_id="c", data_size=11, timestamp="0"))
    only = {"w": np.full(60, 9, np.float32)}
    request = RequestUpdateModel(fl_name="x", fl_id="c", iteration=1, feature_map=only, timestamp="0")
    assert handle(request).retcode == 200
    first, _, last = Watching.rounds[0].uploads
    assert first.weights["w"].tolist() == last.weights["w"].tolist() == INITIAL["w"].reshape(-1).tolist()
    assert first.weights["b"].any() and not last.weights["b"].any()
    assert job.model["w"].tolist() == INITIAL["w"].reshape(-1).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**37])
def test_an_upload_that_is_not_finite_is_refused_and_counts_for_nothing(bad: float) -> None:
    job, records, handle = served(Median())
    for fl_id in "abc":
        handle(RequestFLJob(fl_name="x", fl_id=fl_id, data_size=SIZES[fl_id], timestamp="0"))
    wrong = {"w": np.ones(60, np.float32), "b": np.array([0] * 6 + [bad], np.float32)}
    request = RequestUpdateModel(fl_name="x", fl_id="a", iteration=1, feature_map=wrong, timestamp="0")
    assert handle(request).retcode == 400
    assert job.job.refusals == {"weights_not_finite": 1} and not job.job.current.kept
    for fl_id in "abc":
        upload(handle, fl_id, 1, ())
    assert records[0].valid
    np.testing.assert_allclose(job.model["b"], np.median([values(i, 1)["b"] for i in SIZES], axis=0), rtol=2e-7)


@pytest.mark.parametrize("algorithm", [Median(), MultiKrum(0)], ids=["median", "multikrum"])
def test_a_job_that_was_killed_in_mid_iteration_goes_on_with_the_same_bits(
    algorithm: Algorithm, tmp_path: Path
) -> None:
    with Durable(tmp_path / "whole", algorithm) as server:
        for iteration in (1, 2, 3):
            take_part(server.handle, "abc", iteration, ())
        expected = bits(server.job.coordinator)
    with Durable(tmp_path / "first", algorithm) as server:
        take_part(server.handle, "abc", 1, ())
        take_part(server.handle, "ca", 2, ())
        crashed = server.crash(tmp_path / "second")
    with Durable(crashed, algorithm) as server:
        assert server.job.coordinator.job.current.kept.keys() == {"a", "c"}
        take_part(server.handle, "b", 2, ())
        take_part(server.handle, "cab", 3, ())
        assert bits(server.job.coordinator) == expected


def test_parts_of_a_job_hand_single_uploads_on() -> None:
    whole, _, handle = served(Watching())
    take_part(handle, "abc", 1)
    split, records, _ = served(Watching())
    for names in ("b", "ca"):
        part = _edge(split, names, keep_uploads=True)
        split.job.absorb(part.part(), 0)
    assert records[0].valid and bits(split) == bits(whole)
    assert not _edge(split, "a", keep_uploads=False).part().kept


def _edge(job: Coordinator, names: str, *, keep_uploads: bool) -> EdgeCoordinator:
    config = replace(CONFIG, start_fl_job_threshold=len(names))
    edge = EdgeCoordinator(config, job.job.exchanged, 1, keep_uploads=keep_uploads)
    handle: Handle = lambda request: edge.handle(request, 0)  # noqa: E731
    take_part(handle, names, 1)
    return edge


def test_an_iteration_with_too_few_uploads_fails_and_the_next_one_counts() -> None:
    records: list[IterationRecord] = []
    five = replace(CONFIG, start_fl_job_threshold=5)
    job = Coordinator(five, INITIAL, algorithm=Krum(1), on_iteration_end=records.append)
    job.job.set_cohort(3, 0)
    handle: Callable[[Any], Any] = lambda request: job.handle(request, 0)  # noqa: E731
    take_part(handle, "abc", 1, ())
    assert not records[0].valid and isinstance(records[0].error, AlgorithmError)
    assert str(records[0].error) == (
        "algorithm Krum f=1 failed in iteration 1: f=1 faulty clients take at least 5 clients in an iteration, not 3"
    )
    with pytest.raises(OptionError, match="f=1 faulty clients take at least 5 clients in an iteration, not 4"):
        job.job.new_instance(replace(CONFIG, start_fl_job_threshold=4), "second", 0)
    assert job.iteration == 2 and job.config is five


def test_a_coordinator_with_masks_refuses_single_uploads() -> None:
    masked = replace(CONFIG, encrypt_type="STABLE_PW_ENCRYPT")
    with pytest.raises(
        OptionError, match="algorithm Median does not work here: it needs single uploads, and STABLE_PW"
    ):
        Coordinator(masked, INITIAL, algorithm=Median())


class Undecided(Algorithm):
    """Fails where it should say whether uploads suffice."""

    def uploads_fault(self, clients: int) -> str:
        raise ValueError("a bug")

    def step(self, round: Round) -> Step:
        return Step(model=round.average)


def test_a_fault_in_what_says_whether_uploads_suffice_is_one_error() -> None:
    _, records, handle = served(Undecided())
    take_part(handle, "abc", 1, ())
    what = "algorithm Undecided failed in iteration 1: uploads_fault: ValueError: a bug, in "
    assert str(records[0].error).startswith(what) and Path(__file__).name in str(records[0].error)
