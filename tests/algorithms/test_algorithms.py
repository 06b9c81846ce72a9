"""mindfl's own algorithms in jobs: closed forms, repetition and refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_job import StopAfterTwo, StoppedError, people

from mindfl.algorithms import APFL, Client, FedAvg, FedProx, Krum, LocalOptimizer, Upload
from mindfl.algorithms.algorithm import replaced
from mindfl.algorithms.client_algorithm import with_algorithm
from mindfl.algorithms.listing import describe_algorithm
from mindfl.algorithms.naming import REGISTERED, make_algorithm, recorded
from mindfl.algorithms.server_algorithm import marked
from mindfl.errors import MindflError, MindflWarning, OptionError, StorageError
from mindfl.lite import LiteModel
from mindfl.sim.engines import LiteEngine

#: with settings for three clients, without those that need layers that the small network lacks
TRAINABLE = [
    name + {"trimmed_mean": ":beta=0.35", "krum": ":f=0", "multikrum": ":f=0"}.get(name, "")
    for name in REGISTERED
    if name != "fedbn"
]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if ":" in name else name for name in TRAINABLE]
)
def test_a_run_resumed_with_two_workers_ends_with_the_same_bits(name: str, run_small: Callable[..., Any]) -> None:
    settings = {"algorithm": name, "iterations": 3}
    _, whole = run_small("whole", **settings)
    with pytest.raises(StoppedError):
        run_small("stopped", **settings, reporter=StopAfterTwo())
    _, resumed = run_small("stopped", **settings, resume=True, workers=2)
    assert resumed.hash == whole.hash
    assert [row.avg for row in resumed.history] == [row.avg for row in whole.history]


def test_what_clients_remember_is_checked_before_a_resumed_run_trains(
    run_small: Callable[..., Any], tmp_path: Path
) -> None:
    run_small("run", algorithm="scaffold", iterations=2)
    files = sorted((tmp_path / "run" / "memory").iterdir())
    latest = ((0, 2), (1, 2), (2, 1), (3, 1), (4, 2))  # of the rounds 2, 3, 4 and 4, 0, 1
    assert [path.name for path in files] == [f"client_{i}_iteration_{k}.safetensors" for i, k in latest]
    files[-1].write_bytes(files[-1].read_bytes()[:-4])
    with pytest.raises(StorageError, match=f"^cannot read {files[-1]}, which a client remembers: it has"):
        run_small("run", algorithm="scaffold", iterations=3, resume=True)
    run_small("run", algorithm="fedavg", iterations=1, overwrite=True)
    assert not (tmp_path / "run" / "memory").exists()


def test_algorithms_count_the_clients_that_have_data(run_small: Callable[..., Any]) -> None:
    """Not those that were asked for: SCAFFOLD's c moves by 1/N of the changes."""
    settings = {"algorithm": "scaffold", "iterations": 2}
    with pytest.warns(MindflWarning, match="has 5 usable users, 50 were asked for"):
        _, asked = run_small("asked", **settings, client_num=50)
    assert asked.hash == run_small("had", **settings)[1].hash
    assert asked.card["clients"] == 5
    assert asked.card["network"] == "SmallNet_train", "the name of the model file"


def test_each_algorithm_makes_another_model(run_small: Callable[..., Any]) -> None:
    """So that the hashes above say something."""
    hashes = [
        run_small(name.replace(":", " "), algorithm=name, iterations=8, learning_rate=0.01)[1].hash
        for name in TRAINABLE
    ]
    # The common models of Ditto and APFL are those of FedAvg, and of three clients the trimmed mean is the median.
    assert len({*hashes}) == len(hashes) - 3


@pytest.mark.parametrize("same", ["fedavg:eta=1", "fedprox:mu=0", "fedavgm:eta=1,beta1=0", "fedavgm:beta=0"])
def test_settings_that_make_it_fedavg_make_its_bits(same: str, run_small: Callable[..., Any]) -> None:
    assert run_small("same", algorithm=same)[1].hash == run_small("fedavg")[1].hash


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_the_common_model_of_apfl_is_that_of_fedavg_to_the_bit(alpha: float, run_small: Callable[..., Any]) -> None:
    """The sizes of the clients are not multiples of the batch, so last batches are filled up."""
    _, mixed = run_small("apfl", algorithm=APFL(alpha))
    _, plain = run_small("fedavg")
    assert mixed.hash == plain.hash
    same = [row.avg for row in mixed.history] == [row.avg for row in plain.history]
    assert same == (alpha == 0)  # who only has the common model is evaluated with it


def test_apfl_of_the_own_model_alone_is_local_training(run_small: Callable[..., Any]) -> None:
    """As Ditto without its pull is too."""
    _, mixed = run_small("apfl", algorithm="apfl:alpha=1")
    _, alone = run_small("ditto", algorithm="ditto:lam=0")
    assert [row.accuracies for row in mixed.history] == [row.accuracies for row in alone.history]


def test_the_methods_of_a_subclass_of_fedavg_count() -> None:
    class Silent(FedAvg):
        def end(self, client: Client) -> Upload:
            return Upload(weights=client.received)

    assert not Silent().is_fedavg
    assert "end" in replaced(Silent())


def test_fedprox_with_a_strong_pull_stays(run_small: Callable[..., Any]) -> None:
    def moved(algorithm: str) -> float:
        began, result = run_small(algorithm.replace(":", " "), algorithm=algorithm, optimizer="sgd", learning_rate=1e-4)
        return sum(float(np.abs(result.weights[n] - w.reshape(-1)).sum()) for n, w in began.weights.items())

    assert moved("fedprox:mu=9999") < moved("fedavg") / 5


def test_what_needs_sums_of_gradients_refuses_adam(run_small: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match="does not work with the optimizer adam") as refused:
        run_small(optimizer="adam", algorithm="scaffold")
    assert refused.value.hint == "train with sgd or momentum"


def test_a_network_without_batchnorm_is_refused_by_fedbn(run_small: Callable[..., Any]) -> None:
    with pytest.raises(MindflError, match="FedBN: the network has no BatchNorm layer") as refused:
        run_small(algorithm="fedbn")
    assert refused.value.hint == "use fedper, or fedavg"


def test_one_layer_at_least_is_shared(run_small: Callable[..., Any]) -> None:
    with pytest.raises(MindflError, match="layers is 2: the network has 2"):
        run_small(algorithm="fedper:layers=2")


def test_the_head_stays_on_the_devices_with_fedper(run_small: Callable[..., Any]) -> None:
    began, result = run_small(algorithm="fedper")
    for name, values in began.weights.items():
        assert np.allclose(result.weights[name], values.reshape(-1), rtol=1e-6, atol=0) == name.startswith("out.")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_each_trains_with_each_optimizer_or_refuses_it_by_name(
    name: str, optimizer: str, small_model: Callable[[str], Path]
) -> None:
    """Two rounds of one client: without memory and with it."""
    engine, algorithm = LiteEngine(LiteModel.load(small_model(optimizer))), make_algorithm(name)
    if optimizer not in describe_algorithm(name.partition(":")[0]).optimizers:
        with pytest.raises(OptionError, match=f"does not work with the optimizer {optimizer}"):
            with_algorithm(engine, algorithm, 5)
        return
    trainer: Any = with_algorithm(engine, algorithm, 5).trainer(people().user(0), threading.Event())
    received = {n: w.reshape(-1) for n, w in engine.model.weights.items()}
    for _ in range(2):
        trainer.load({**received, **marked(algorithm.extras(received))})
        trainer.train(1, 0.01, lambda epoch, losses: None)
        assert any((trainer.weights()[n] != w).any() for n, w in received.items())
        assert 0 <= trainer.evaluate() <= 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fedporx", "did you mean fedprox?"),
        ("fedprox:nu=1", "FedProx has no setting nu"),
        # A module of the algorithm's name comes first, and the examples have a fedprox.py.
        ("feddyn:alpha", "feddyn:alpha: 'alpha' is not key=value settings are name:key=value,key=value"),
        ("feddyn:", "'' is not key=value"),
        ("fedprox:mu=1,mu=2", "mu is given twice in 'mu=1,mu=2'"),
        ("fedprox:mu=-0.1", "mu must be a number at least 0, got -0.1"),
        ("fedprox:mu=nan", "mu must be a number at least 0, got nan"),
        ("fedprox:mu=true", "mu must be a number at least 0, got True"),
        ("fedprox:mu=strong", "mu must be a number at least 0, got 'strong'"),
        ("feddyn:alpha=0", "alpha must be a number above 0, got 0"),
        ("fedcm:alpha=1.5", "alpha must be a number above 0 and at most 1, got 1.5"),
        ("fedavgm:beta1=1", "beta1 must be a number at least 0 and below 1, got 1"),
        ("fedadam:eta=0", "eta must be a number above 0, got 0"),
        ("fedadagrad:tau=0", "tau must be a number above 0, got 0"),
        ("fedexp:eps=inf", "eps must be a number above 0, got inf"),
        ("qfedavg:q=-1", "q must be a number at least 0, got -1"),
        ("ditto:lam=-1", "lam must be a number at least 0, got -1"),
        ("apfl:alpha=-0.1", "alpha must be a number at least 0 and at most 1, got -0.1"),
        ("apfl:alpha=1.1", "alpha must be a number at least 0 and at most 1, got 1.1"),
        ("fedper:layers=0", "layers must be a whole number of at least 1, got 0"),
        ("fedper:layers=1.5", "layers must be a whole number of at least 1, got 1.5"),
        ("scaffold:alpha=1", "Scaffold has no setting alpha"),
        ("multikrumm", "did you mean multikrum?"),
        ("median:beta=0.2", "Median has no setting beta"),
        ("trimmed_mean:beta=0.5", "TrimmedMean: beta must be a number at least 0 and below 0.5, got 0.5"),
        ("trimmed_mean:beta=-0.1", "TrimmedMean: beta must be a number at least 0 and below 0.5, got -0.1"),
        ("krum:f=-1", "Krum: f must be a whole number of at least 0, got -1"),
        ("multikrum:f=1.5", "MultiKrum: f must be a whole number of at least 0, got 1.5"),
        ("krum:f=true", "Krum: f must be a whole number of at least 0, got True"),
    ],
)
def test_wrong_names_and_settings_are_refused(text: str, words: str) -> None:
    with pytest.raises(OptionError) as refused:
        make_algorithm(text)
    assert words in f"{refused.value} {refused.value.hint}"


def test_settings_may_be_numbers_of_numpy() -> None:
    made = vars(FedProx(np.float32(0.5))), vars(Krum(np.int64(2)))
    assert [(value, type(value)) for each in made for value in each.values()] == [(0.5, float), (2, int)]
    with pytest.raises(OptionError, match="f must be a whole number"):
        Krum(np.float64(2))


@pytest.mark.parametrize("name", REGISTERED)
def test_a_record_makes_the_algorithm_again(name: str) -> None:
    made = make_algorithm(name)
    again = make_algorithm(recorded(made))
    assert type(again) is type(made) or made.is_fedavg
    assert vars(again) == vars(made)


def test_records_are_short() -> None:
    assert [recorded(FedProx(0.5)), recorded(FedAvg()), recorded(FedAvg(0.5))] == [
        "fedprox:mu=0.5",
        "fedavg",
        "fedavg:eta=0.5",
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_the_norm_is_that_of_the_closed_form(momentum: float, steps: int) -> None:
    expected = (steps - momentum * (1 - momentum**steps) / (1 - momentum)) / (1 - momentum)
    assert LocalOptimizer(name="momentum", momentum=momentum).norm(steps) == pytest.approx(expected, rel=1e-12)


def test_the_norm_of_dampening_and_nesterov_counts_each_gradient() -> None:
    """By moving one gradient at a time."""
    optimizer = LocalOptimizer(name="sgd", momentum=0.8, nesterov=False, dampening=0.3)
    ahead = LocalOptimizer(name="momentum", momentum=0.8, nesterov=True)
    assert optimizer.norm(6) == pytest.approx(sum(reach(place, 0.8, 0.3, 6) for place in range(6)))
    assert ahead.norm(6) == pytest.approx(sum(reach(place, 0.8, 0.0, 6, nesterov=True) for place in range(6)))


def reach(place: int, momentum: float, dampening: float, steps: int, *, nesterov: bool = False) -> float:
    velocity = distance = 0.0
    for step in range(steps):
        gradient = float(step == place)
        velocity = momentum * velocity + gradient * (1 - dampening if step else 1)
        distance += gradient + momentum * velocity if nesterov else velocity
    return distance


def test_adam_has_no_norm() -> None:
    with pytest.raises(ValueError, match="adam"):
        LocalOptimizer(name="adam").norm(3)
