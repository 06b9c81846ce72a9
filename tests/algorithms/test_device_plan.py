"""``mindfl plan``: its formulas, executed between the runtime's plain steps, are the runtime's corrected steps."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from small_job import BATCH, samples

from mindfl.algorithms import Algorithm, Client, Correction, LocalOptimizer, Training
from mindfl.algorithms.algorithm import replaced
from mindfl.algorithms.device_plan import DevicePlan, device_plan
from mindfl.algorithms.naming import REGISTERED, make_algorithm
from mindfl.cli.plan import plan_command
from mindfl.errors import OptionError
from mindfl.lite import LiteModel, Session

STEPS, RATE = 20, 0.05
Floats = NDArray[np.float32]


def model_with(path: Path, momentum: float) -> LiteModel:
    """Return the model of a file, whose optimizer gets another momentum; 0: it has none."""
    model = LiteModel.load(path)
    if not momentum:
        return model
    content = bytearray(model.content)
    for node in model.optimizer_nodes:
        place = model.tensors[node.inputs[4]].position
        content[place : place + 4] = struct.pack("<f", momentum)
    return LiteModel.from_bytes(bytes(content))


class Weights:
    """A session's weights as one vector."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sizes = {name: tensor.size for name, tensor in session.model.parameters.items()}

    def joined(self, arrays: Mapping[str, Any]) -> Floats:
        zero = {name: np.zeros(size, np.float32) for name, size in self._sizes.items()}
        return np.concatenate([np.ravel(arrays.get(name, zero[name])) for name in self._sizes]).astype(np.float32)

    def get(self) -> Floats:
        return self.joined(self._session.get_weights())

    def set(self, vector: Floats) -> None:
        parts = np.split(vector.astype(np.float32), np.cumsum([*self._sizes.values()])[:-1])
        self._session.set_weights(dict(zip(self._sizes, parts, strict=True)))


def client_of(algorithm: Algorithm, model: LiteModel) -> Client:
    """Return a client whose further arrays and memory are drawn."""
    rng = np.random.default_rng(1)
    received = {name: values.reshape(-1) for name, values in model.weights.items()}

    def drawn(names: Any) -> dict[str, Floats]:
        return {name: rng.normal(0, 0.1, received[name].size).astype(np.float32) for name in received if name in names}

    return Client(
        **{"name": "a", "iteration": 2, "received": received, "learning_rate": RATE, "batch_size": BATCH, "epochs": 1},
        **{"samples": 50, "population": 5, "optimizer": LocalOptimizer(name="momentum", momentum=0.9)},
        extras=drawn(algorithm.extras(received)),
        memory=drawn(received),
    )


def batches() -> Iterator[tuple[Any, Any]]:
    images, labels = samples(4)
    for step in range(STEPS):
        rows = (np.arange(BATCH) + step * BATCH) % len(labels)
        yield images[rows], labels[rows].astype(np.int32)


def beginning(model: LiteModel) -> Session:
    session = Session(model)
    session.set_learning_rate(RATE)
    return session


def by_runtime(model: LiteModel, correction: Correction | None) -> Floats:
    session = beginning(model)
    session.set_correction(correction)
    for images, labels in batches():
        session.train_step(images, labels)
    return Weights(session).get()


def execute(formulas: Sequence[str], variables: dict[str, Any]) -> None:
    for formula in formulas:
        exec(formula, {}, variables)


def by_plan(model: LiteModel, plan: DevicePlan, correction: Correction, momentum: float) -> Floats:
    """Execute what the plan says, between steps without a correction."""
    session = beginning(model)
    weights = Weights(session)
    known = {
        "lr": RATE,
        "m": momentum,
        "s": correction.scale,
        "mu": correction.pull,
        "b": weights.joined(correction.after),
    }
    variables = {**known, "a": weights.joined(correction.shift), "x": weights.get(), "w": weights.get()}
    execute(plan.before_training, variables)
    for images, labels in batches():
        variables["w"] = weights.get()
        execute(plan.before_step, variables)
        session.train_step(images, labels)
        variables["w"] = weights.get()
        execute(plan.after_step, variables)
        weights.set(variables["w"])
    return weights.get()


@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("momentum", 0.5), ("momentum", 0.9)])
@pytest.mark.parametrize("name", ["fedprox:mu=0.5", "scaffold", "scaffold_niid", "feddyn:alpha=0.3", "fedcm:alpha=0.3"])
def test_the_formulas_are_the_corrected_steps(
    name: str, optimizer: Any, momentum: float, small_model: Callable[..., Path]
) -> None:
    model, algorithm = model_with(small_model(optimizer), momentum), make_algorithm(name)
    correction = algorithm.begin(client_of(algorithm, model))
    assert correction is not None
    plan = device_plan(name, optimizer=optimizer, momentum=momentum or 0.9)
    expected = by_runtime(model, correction)
    np.testing.assert_allclose(by_plan(model, plan, correction, momentum), expected, rtol=0, atol=1e-6)
    assert np.abs(by_runtime(model, None) - expected).max() > 1e-3  # so that the line above says something
    if momentum == 0.9 and correction.shift:  # adding lr * c after the step, without a companion buffer, is too weak
        weak = by_plan(model, device_plan(name, optimizer="sgd"), correction, 0.0)
        assert np.abs(weak - expected).max() > 1e-3


def test_dittos_own_weights_take_the_corrected_steps_too(small_model: Callable[..., Path]) -> None:
    plan = device_plan("ditto:lam=0.2")
    title, *lines, last = plan.personal
    assert (title[:28], last[:10]) == ("before the training of the m", "then w = x")
    steps = {
        when: tuple(line.removeprefix(f"{when} each step: ") for line in lines if line.startswith(when))
        for when in ("before", "after")
    }
    prox = device_plan("fedprox:mu=0.2")
    assert (steps["before"], steps["after"]) == (prox.before_step, prox.after_step)
    assert [line for line in lines if "step" not in line] == ["w = v", "u = 0 * w", "v = w"]
    assert plan.names["v"].startswith("the client's own weights")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_apfls_own_weights_take_scaled_steps_at_the_mixture(optimizer: Any, small_model: Callable[..., Path]) -> None:
    """With a common model that stands still, they are corrected steps of a factor squared for the mixture."""
    model, share = LiteModel.load(small_model(optimizer)), 0.5
    plan = device_plan(f"apfl:alpha={share}", optimizer=optimizer)
    before, after = plan.personal[1:3], plan.personal[3:]
    session = beginning(model)
    weights = Weights(session)
    common = weights.get()
    variables: dict[str, Any] = {"v": common, "w_c": common, "p": share, "s": share}
    for images, labels in batches():
        execute([line.removeprefix("before each step: ") for line in before], variables)
        weights.set(variables["w"])
        session.train_step(images, labels)
        variables["w"] = weights.get()
        execute([line.removeprefix("after each step: ") for line in after], variables)
    mixture = share * variables["v"] + (1 - share) * common
    np.testing.assert_allclose(mixture, by_runtime(model, Correction(scale=share**2)), rtol=0, atol=1e-6)


class Mixed(Algorithm):
    """Trains own weights at a mixture, with all that a correction has."""

    def personal_training(self, client: Client) -> Training:
        arrays = client.received
        return Training(
            share=0.25, correction=Correction(scale=0.5, shift=arrays, pull=2, towards=arrays, after=arrays)
        )


def test_a_mixtures_correction_is_whole() -> None:
    plan = device_plan(Mixed())
    assert plan.personal[1:] == (
        "u = 0 * w",
        "before each step: w_k = p * v + (1 - p) * w_c",
        "before each step: w = w_k",
        "before each step: c = a + mu * (w_k - x)",
        "after each step: u = m * u + c",
        "after each step: v = v + s * (w - w_k) - lr * u",
        "after each step: v = v + b",
    )
    assert all(f"{value}" in plan.names[name] for name, value in {"p": 0.25, "s": 0.5, "mu": 2, "m": 0.9}.items())
    assert "u" not in device_plan(Mixed(), optimizer="sgd").names


class Named(Algorithm):
    """Knows a network's names."""

    def begin(self, client: Client) -> Correction:
        return Correction(shift={"fc.weight": client.received["fc.weight"]})


def test_an_algorithm_that_fails_is_named() -> None:
    with pytest.raises(OptionError, match=r"algorithm Named: begin: KeyError: 'fc\.weight'") as failed:
        device_plan(Named())
    assert "weights a.weight, b.gamma, b.weight; it must take those of any" in (failed.value.hint or "")


def test_the_last_layers_of_any_network_may_be_the_clients_own() -> None:
    plan = device_plan("fedper:layers=3")
    assert "keep some of the weights for the client's next round" in plan.after_training


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize("optimizer", ["momentum", "sgd", "adam"])
def test_every_algorithm_has_a_plan_or_a_reason(name: str, optimizer: Any) -> None:
    plan = device_plan(name, optimizer=optimizer)
    told = (plan.before_training, plan.before_step, plan.after_step, plan.after_training, plan.personal)
    assert plan.possible == (not plan.reason)
    assert any(told) == (plan.possible and plan.changed)
    assert plan.changed == bool(replaced(make_algorithm(name)) - {"state", "step"})


def test_the_words_of_a_plan() -> None:
    lines = CliRunner().invoke(plan_command, ["--algorithm", "scaffold"]).output.splitlines()
    assert lines[1:7] == [
        "before training   u = 0 * w",
        "before each step  w_k = w",
        "                  c = a",
        "after each step   u = m * u + c",
        "                  w = w - lr * u",
        "after training    upload 1 x the weights' size and 1 number beside the weights, by the algorithm's formula",
    ]
    assert "with a            the shift: c - c_i" in lines
    server = CliRunner().invoke(plan_command, ["--algorithm", "fedadam"]).output
    assert "nothing: an unchanged device works" in server
    found = json.loads(CliRunner().invoke(plan_command, ["--algorithm", "scaffold", "--json"]).output)
    assert (found["possible"], found["after_step"]) == (True, ["u = m * u + c", "w = w - lr * u"])
    adam = CliRunner().invoke(plan_command, ["--algorithm", "fedprox", "--optimizer", "adam"]).output
    assert adam.splitlines()[0] == "FedProx mu=0.1 on a stock device with adam"
    assert "not possible: Adam divides each step by the root of its second moment" in adam


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(OptionError, match="unknown name 'scafold'"):
        device_plan("scafold")
    with pytest.raises(OptionError, match="momentum must be"):
        device_plan("scaffold", momentum=1)
    with pytest.raises(OptionError, match="optimizer must be one of"):
        device_plan("scaffold", optimizer="nadam")  # type: ignore[arg-type]
