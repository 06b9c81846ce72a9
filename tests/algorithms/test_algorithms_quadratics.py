"""Five quadratic clients with different optima: which algorithms reach the common optimum, and which do not."""

from __future__ import annotations

import numpy as np
import pytest

from mindfl.algorithms import Algorithm, Client, Correction, FedAvg, FedDyn, LocalOptimizer, Round, Scaffold
from mindfl.algorithms.algorithm import Arrays

RATE, STEPS, ROUNDS, SIZE = 0.05, 10, 400, 4


class InvertedSign(Scaffold):
    """The fault of a public implementation: gradients get c_i - c."""

    def begin(self, client: Client) -> Correction:
        return Correction(shift={name: -values for name, values in super().begin(client).shift.items()})


class StepsForNorm(LocalOptimizer):
    """The fault of others: K lr in place of A lr."""

    def norm(self, steps: int) -> float:
        return float(steps)


def distance(algorithm: Algorithm, optimizer: LocalOptimizer, rounds: int = ROUNDS) -> float:
    """Return how far the model is from the common optimum after training with ``algorithm`` in float64."""
    rng = np.random.default_rng(5)
    matrices = [np.diag(rng.uniform(0.5, 2.0, SIZE)) for _ in range(5)]
    targets = [rng.normal(0, 1, SIZE) for _ in range(5)]
    optimum = np.linalg.solve(sum(matrices), sum(a @ b for a, b in zip(matrices, targets, strict=True)))
    model: Arrays = {"w": np.zeros(SIZE)}
    sent, state = algorithm.extras(model), algorithm.state(model)
    memories: list[Arrays] = [{} for _ in matrices]
    for iteration in range(1, rounds + 1):
        trained, uploads = [], []
        for index, (a, b) in enumerate(zip(matrices, targets, strict=True)):
            client = Client(
                name=str(index),
                iteration=iteration,
                received=model,
                extras=sent,
                memory=memories[index],
                learning_rate=RATE,
                batch_size=1,
                epochs=STEPS,
                samples=7,
                population=5,
                optimizer=optimizer,
            )
            w = descend(model["w"], a, b, optimizer.momentum, algorithm.begin(client) or Correction())
            ended = Client(**{**vars(client), "trained": {"w": w}, "steps": STEPS, "loss": 0.0})
            upload = algorithm.end(ended)
            memories[index] = upload.memory
            trained.append(w)
            uploads.append({**sent, **upload.extras})
        made = algorithm.step(
            Round(
                iteration=iteration,
                model=model,
                average={"w": np.mean(trained, axis=0)},
                sent=sent,
                extras={name: np.mean([upload[name] for upload in uploads], axis=0) for name in sent},
                state=state,
                clients=5,
            )
        )
        model, state, sent = made.model, made.state, {**sent, **made.extras}
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.nan_to_num(np.linalg.norm(model["w"] - optimum), nan=np.inf))


def descend(w: Arrays, a: Arrays, b: Arrays, momentum: float, correction: Correction) -> Arrays:
    began, velocity = w, np.zeros(SIZE)
    for _ in range(STEPS):
        gradient = correction.scale * (a @ (w - b)) + correction.shift.get("w", 0.0) + correction.pull * (w - began)
        velocity = momentum * velocity + gradient
        w = w - RATE * velocity
    return w


PLAIN = {"name": "sgd"}
MOMENTUM = {"name": "momentum", "momentum": 0.9}


@pytest.mark.parametrize("optimizer", [PLAIN, MOMENTUM], ids=["sgd", "momentum"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scaffold_and_feddyn_reach_the_optimum_and_fedavg_does_not(optimizer: dict[str, float]) -> None:
    local = LocalOptimizer(**optimizer)  # type: ignore[arg-type]
    assert distance(FedAvg(), local) > 1e-2
    assert distance(Scaffold(), local) < 1e-6
    assert distance(FedDyn(alpha=1.0), local) < 1e-6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_faults_of_others_are_told_apart() -> None:
    assert distance(InvertedSign(), LocalOptimizer(**PLAIN)) > 1  # type: ignore[arg-type]
    assert distance(Scaffold(), StepsForNorm(**MOMENTUM)) > 1  # type: ignore[arg-type]
