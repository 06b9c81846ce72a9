"""Median, trimmed mean, Krum and Multi-Krum: against NumPy, against attacks, and where they are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job import SEVEN, samples, server
from test_algorithms_oracle import distance

from mindfl.algorithms import (
    Algorithm,
    Client,
    ClientUpload,
    Krum,
    Median,
    MultiKrum,
    Round,
    TrimmedMean,
    Upload,
)
from mindfl.algorithms.naming import make_algorithm
from mindfl.data import Dataset
from mindfl.errors import AlgorithmError, MindflWarning, OptionError
from mindfl.sim import FederatedJob

Floats = np.ndarray[Any, Any]
SLOW = pytest.mark.slow


class Growing:
    """Draws ``least`` to five of the seven clients in turn."""

    def __init__(self, least: int) -> None:
        self.least = least

    def sample(self, clients: int, iteration: int, rng: np.random.Generator, state: dict[str, Any]) -> Iterable[int]:
        size = self.least + iteration % (6 - self.least)
        return [(iteration * 3 + place) % clients for place in range(size)]


@pytest.fixture(scope="module")
def seven() -> Dataset:
    return Dataset.from_arrays({f"user{i}": (*samples(i), *samples(i)) for i in range(len(SEVEN))}, classes=3)


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=SLOW), "momentum"])
@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("median", 3),
        ("trimmed_mean:beta=0.35", 3),
        pytest.param("trimmed_mean", 5, marks=SLOW),
        pytest.param("krum", 5, marks=SLOW),
        pytest.param("krum:f=0", 3, marks=SLOW),
        ("multikrum", 5),
    ],
)
def test_a_rule_is_that_of_numpy(
    text: str, least: int, optimizer: str, run_small: Callable[..., Any], seven: Dataset
) -> None:
    momentum, sampler = 0.9 if optimizer == "momentum" else 0.0, Growing(least)
    data = {"train_dataset": seven, "client_num": len(SEVEN), "sampler": sampler}
    model, result = run_small(optimizer=optimizer, algorithm=text, **data)
    name, _, setting = text.partition(":")
    given = {key: float(value) if key == "beta" else int(value) for key, _, value in [setting.partition("=")] if key}
    expected, plain = (server(model, momentum, 0.05, len(SEVEN)) for _ in range(2))
    for iteration in range(1, 6):
        cohort = [*sampler.sample(len(SEVEN), iteration, np.random.default_rng(0), {})]
        oracle.ROUNDS[name](expected, cohort, **given)
        oracle.fedavg(plain, cohort)
    assert distance(result.weights, expected.x) < 1e-5
    assert distance(plain.x, expected.x) > 1e-3


def attacked(rule: Algorithm, attackers: int) -> Algorithm:
    """Return ``rule``, some of whose clients upload -10 times their update."""

    class Attacked(type(rule)):  # type: ignore[misc]
        def end(self, client: Client) -> Upload:
            if int(client.name.removeprefix("user")) >= attackers:
                return Upload()
            return Upload(weights={n: old - 10 * (client.trained[n] - old) for n, old in client.received.items()})

    made: Algorithm = Attacked(**vars(rule))
    return made


@pytest.fixture(scope="module")
def alike() -> Dataset:
    """Seven clients whose labels are spread alike."""

    def user(number: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(number)
        labels = rng.integers(0, 3, 24)
        images = rng.random((24, 5, 4), np.float32) * 0.3
        images[np.arange(24), labels] += 0.6
        return images, labels

    return Dataset.from_arrays({f"user{i}": (*user(i), *user(i)) for i in range(7)}, classes=3)


@pytest.mark.parametrize(
    ("rule", "attackers", "holds"),
    [
        pytest.param(Algorithm(), 0, True, marks=SLOW),
        (Algorithm(), 1, False),
        (Median(), 3, True),
        (Median(), 4, False),
        (TrimmedMean(0.3), 2, True),
        (TrimmedMean(0.3), 3, False),
        pytest.param(TrimmedMean(0), 1, False, marks=SLOW),
        pytest.param(Krum(1), 1, True, marks=SLOW),
        (Krum(2), 2, True),
        pytest.param(MultiKrum(2), 2, True, marks=SLOW),
        pytest.param(MultiKrum(1), 2, False, marks=SLOW),
    ],
    ids=lambda value: f"{type(value).__name__} {vars(value)}" if isinstance(value, Algorithm) else None,
)
def test_a_rule_holds_up_to_its_breakdown_point(
    rule: Algorithm, attackers: int, holds: bool, run_small: Callable[..., Any], alike: Dataset
) -> None:
    data = {"train_dataset": alike, "client_num": 7, "sampler": None, "iterations": 8}
    _, result = run_small(algorithm=attacked(rule, attackers), **data)
    accuracy = result.history[-1].avg
    assert accuracy > 0.9 if holds else accuracy < 0.6


def merged(rule: Algorithm, values: Floats, names: Sequence[str] = ()) -> Floats:
    """Return what ``rule`` makes of clients' values, one client a row; ``names`` are theirs."""
    values = np.asarray(values, np.float32)
    ids = names or [f"{place:03}" for place in range(len(values))]
    uploads = [
        ClientUpload(client=name, samples=place + 1, weights={"a": row[:2], "b": row[2:]}, extras={})
        for place, (name, row) in enumerate(zip(ids, values, strict=True))
    ]
    zeros = {"a": np.zeros(2, np.float32), "b": np.zeros(values.shape[1] - 2, np.float32)}
    found = rule.step(
        Round(
            iteration=1, model=zeros, average=zeros, sent={}, extras={}, state={}, clients=len(values), uploads=uploads
        )
    ).model
    return np.concatenate([found["a"], found["b"]])


# Sixteenths, so that sums and differences are exact.
grids = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).integers(-900, 900, (9, 5)) / 16)
rules = st.sampled_from([Median(), TrimmedMean(0.2), TrimmedMean(0.49), Krum(1), Krum(3), MultiKrum(1), MultiKrum(3)])


@given(grids, rules, st.randoms())
@settings(max_examples=40)
def test_clients_are_equal_and_moving_all_moves_the_result(values: Floats, rule: Algorithm, random: Any) -> None:
    order = random.sample(range(9), 9)
    expected = merged(rule, values)
    np.testing.assert_allclose(merged(rule, values[order]), expected, rtol=1e-12, atol=1e-12)
    shift = np.arange(5) * 3.25 - 7
    np.testing.assert_allclose(merged(rule, values + shift), expected + shift, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged(rule, np.tile(values[:1], (9, 1))), values[0], rtol=1e-12)


@given(grids, st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=40)
def test_faulty_values_do_not_lead_out_of_the_range_of_the_others(values: Floats, clients: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = values[:clients].astype(np.float32)
    for rule, faulty in ((Median(), (clients - 1) // 2), (TrimmedMean(0.3), TrimmedMean(0.3).cut(clients))):
        uploads = values.copy()
        uploads[:faulty] = rng.choice([-3e9, -1.0, 0.0, 2e5, 3e9], (faulty, 5))
        found = merged(rule, uploads[rng.permutation(clients)])
        honest = uploads[faulty:]
        assert (found >= honest.min(0)).all() and (found <= honest.max(0)).all()


@given(grids, st.integers(1, 3), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_krum_chooses_none_of_f_clients_that_are_far_away(values: Floats, f: int, together: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    far = rng.normal(size=(1 if together else f, 5))
    values[:f] = 1e5 * far / np.linalg.norm(far, axis=1, keepdims=True)
    order = rng.permutation(9)
    honest = values[f:].astype(np.float32)
    assert (merged(Krum(f), values[order]) == honest).all(1).any()
    np.testing.assert_allclose(merged(MultiKrum(f), values[order]), honest.mean(0, np.float64), rtol=1e-9)


def test_half_of_the_clients_move_the_median_and_one_more_than_is_cut_the_trimmed_mean() -> None:
    values = np.ones((6, 5))
    values[:3] = 1e6
    assert merged(Median(), values).tolist() == [500000.5] * 5
    assert merged(TrimmedMean(0.4), values).tolist() == [500000.5] * 5
    values[:1] = 1
    assert merged(Median(), values).tolist() == merged(TrimmedMean(0.4), values).tolist() == [1] * 5


def test_the_share_is_cut_as_it_is_written() -> None:
    assert [TrimmedMean(0.29).cut(100), TrimmedMean(0.2).cut(4), TrimmedMean(0.2).cut(5), TrimmedMean(0).cut(9)] == [
        29,
        0,
        1,
        0,
    ]


def test_many_weights_are_merged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(7, 50))
    whole = [merged(rule, values) for rule in (Median(), TrimmedMean(), Krum(), MultiKrum(2))]
    monkeypatch.setattr("mindfl.algorithms.robust._BLOCK", 20)
    monkeypatch.setattr("mindfl.algorithms.robust._CACHED", 1)
    for rule, expected in zip((Median(), TrimmedMean(), Krum(), MultiKrum(2)), whole, strict=True):
        assert merged(rule, values).tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["PW_ENCRYPT", "STABLE_PW_ENCRYPT", "PW_EXACT", "SIGNDS"])
def test_modes_that_hide_uploads_are_refused_by_name(mode: str, tmp_path: Any) -> None:
    with pytest.raises(
        OptionError, match=rf"^algorithm Median does not work here: it needs single .*{mode}"
    ) as refused:
        FederatedJob(work_dir=tmp_path, algorithm="median", encrypt_type=mode)
    assert refused.value.hint.startswith("choose encrypt_type NOT_ENCRYPT or DP_ENCRYPT")


def test_too_many_faulty_clients_are_refused_as_early_as_they_are_known(
    run_small: Callable[..., Any], tmp_path: Any
) -> None:
    few = "f=2 faulty clients take at least 7 clients in an iteration, not"
    with pytest.raises(OptionError, match=rf"^algorithm Krum f=2 does not work here: {few} 6$"):
        FederatedJob(work_dir=tmp_path, algorithm="krum:f=2", client_num=9, clients_per_iteration=6)
    with pytest.warns(MindflWarning), pytest.raises(OptionError, match=rf"Krum f=2 does not work here: {few} 5$"):
        run_small("data", algorithm="krum:f=2", sampler=None, client_num=9)
    with pytest.raises(AlgorithmError, match=rf"^algorithm MultiKrum f=2 failed in iteration 1: {few} 3$") as failed:
        run_small(algorithm="multikrum:f=2")
    assert failed.value.hint == "let more clients take part in an iteration, or change the algorithm's settings"
    assert make_algorithm("krum:f=2").uploads_fault(7) == ""


@SLOW
@pytest.mark.parametrize(
    "settings", [{"encrypt_type": "DP_ENCRYPT"}, {"upload_compress_type": "DIFF_SPARSE_QUANT"}], ids=str
)
def test_noise_and_quantisation_leave_single_uploads(settings: dict[str, Any], run_small: Callable[..., Any]) -> None:
    began, result = run_small("rule", algorithm="median", iterations=1, **settings)
    assert result.hash != run_small("mean", iterations=1, **settings)[1].hash
    assert any((result.weights[n] != w.reshape(-1)).any() for n, w in began.weights.items())
