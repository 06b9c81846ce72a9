"""Federated algorithms in float64 with NumPy, written from the papers' formulas; nothing of mindfl is used.

A model is a dict of arrays. Clients train :class:`Net` with SGD or momentum; a round is one function per algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Model = dict[str, Floats]
Correct = Callable[[Model, Model], Model]
W1, B1, W2, B2 = "hidden.weight", "hidden.bias", "out.weight", "out.bias"


@dataclass
class Data:
    """One client's samples, in rows."""

    x: Floats
    y: NDArray[np.int_]

    @property
    def size(self) -> int:
        return len(self.y)


@dataclass
class Plan:
    """How clients train."""

    rate: float
    epochs: int
    batch: int
    momentum: float
    decay: float = 0.0

    def steps(self, data: Data) -> int:
        return self.epochs * -(-data.size // self.batch)

    def batches(self, data: Data) -> list[NDArray[np.int_]]:
        """The rows of each step."""
        steps = -(-data.size // self.batch)
        return list((np.arange(steps * self.batch) % data.size).reshape(steps, self.batch)) * self.epochs

    def norm(self, data: Data) -> float:
        """The sum of the factors of all gradients in the update, by the closed form."""
        m, k = self.momentum, self.steps(data)
        return (k - m * (1 - m**k) / (1 - m)) / (1 - m)


def loss_and_gradient(w: Model, x: Floats, y: NDArray[np.int_]) -> tuple[float, Model]:
    pre = x @ w[W1].T + w[B1]
    hidden = np.maximum(pre, 0)
    logits = hidden @ w[W2].T + w[B2]
    logits -= logits.max(1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = np.arange(len(y))
    loss = -float(np.log(p[rows, y]).mean())
    p[rows, y] -= 1
    p /= len(y)
    back = (p @ w[W2]) * (pre > 0)
    return loss, {W1: back.T @ x, B1: back.sum(0), W2: p.T @ hidden, B2: p.sum(0)}


def train(start: Model, data: Data, plan: Plan, correct: Correct = lambda g, w: g, after: Model | None = None) -> Model:
    """``after`` is added to the weights after each step."""
    w = {n: v.copy() for n, v in start.items()}
    velocity = {n: np.zeros_like(v) for n, v in w.items()}
    for batch in plan.batches(data):
        g = loss_and_gradient(w, data.x[batch], data.y[batch])[1]
        g = correct({n: g[n] + plan.decay * w[n] for n in g}, w)
        for n in w:
            velocity[n] = plan.momentum * velocity[n] + g[n]
            w[n] = w[n] - plan.rate * velocity[n] + (after[n] if after else 0)
    return w


@dataclass
class Server:
    """What lasts between rounds, whichever of it an algorithm uses."""

    x: Model
    clients: Mapping[int, Data]
    plan: Plan

    def __post_init__(self) -> None:
        zeros = {n: np.zeros_like(v) for n, v in self.x.items()}
        self.m, self.v, self.c, self.h, self.direction = zeros, dict(zeros), dict(zeros), dict(zeros), dict(zeros)
        self.own: dict[int, Model] = {i: dict(zeros) for i in self.clients}

    @property
    def total(self) -> int:
        return len(self.clients)

    def shares(self, cohort: Sequence[int]) -> dict[int, float]:
        samples = sum(self.clients[i].size for i in cohort)
        return {i: self.clients[i].size / samples for i in cohort}

    def trained(self, cohort: Sequence[int], correct: Callable[[int], Correct] | None = None) -> dict[int, Model]:
        plain: Correct = lambda g, w: g  # noqa: E731
        return {i: train(self.x, self.clients[i], self.plan, correct(i) if correct else plain) for i in cohort}

    def mean_update(self, trained: Mapping[int, Model]) -> Model:
        share = self.shares(list(trained))
        return {n: sum(share[i] * (w[n] - self.x[n]) for i, w in trained.items()) for n in self.x}  # type: ignore[misc]


def fedavg(s: Server, cohort: Sequence[int], eta: float = 1) -> None:
    d = s.mean_update(s.trained(cohort))
    s.x = {n: s.x[n] + eta * d[n] for n in d}


def fedavgm(s: Server, cohort: Sequence[int], eta: float = 1, beta1: float = 0.9) -> None:
    d = s.mean_update(s.trained(cohort))
    s.m = {n: beta1 * s.m[n] + d[n] for n in d}
    s.x = {n: s.x[n] + eta * s.m[n] for n in d}


def fedadagrad(s: Server, cohort: Sequence[int], eta: float = 0.01, tau: float = 1e-3) -> None:
    d = s.mean_update(s.trained(cohort))
    s.v = {n: s.v[n] + d[n] ** 2 for n in d}
    s.x = {n: s.x[n] + eta * d[n] / (np.sqrt(s.v[n]) + tau) for n in d}


def fedadam(
    s: Server, cohort: Sequence[int], eta: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> None:
    d = s.mean_update(s.trained(cohort))
    s.m = {n: beta1 * s.m[n] + (1 - beta1) * d[n] for n in d}
    s.v = {n: beta2 * s.v[n] + (1 - beta2) * d[n] ** 2 for n in d}
    s.x = {n: s.x[n] + eta * s.m[n] / (np.sqrt(s.v[n]) + tau) for n in d}


def fedyogi(
    s: Server, cohort: Sequence[int], eta: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> None:
    d = s.mean_update(s.trained(cohort))
    s.m = {n: beta1 * s.m[n] + (1 - beta1) * d[n] for n in d}
    s.v = {n: s.v[n] - (1 - beta2) * d[n] ** 2 * np.sign(s.v[n] - d[n] ** 2) for n in d}
    s.x = {n: s.x[n] + eta * s.m[n] / (np.sqrt(s.v[n]) + tau) for n in d}


def fedexp(s: Server, cohort: Sequence[int], eps: float = 1e-3) -> None:
    trained = s.trained(cohort)
    d = s.mean_update(trained)
    squares = [sum(float(((w[n] - s.x[n]) ** 2).sum()) for n in d) for w in trained.values()]
    square = sum(float((d[n] ** 2).sum()) for n in d)
    eta = max(1.0, sum(squares) / (2 * len(squares) * (square + eps)))
    s.x = {n: s.x[n] + eta * d[n] for n in d}


def fedprox(s: Server, cohort: Sequence[int], mu: float = 0.1) -> None:
    x = s.x
    d = s.mean_update(s.trained(cohort, lambda i: lambda g, w: {n: g[n] + mu * (w[n] - x[n]) for n in g}))
    s.x = {n: x[n] + d[n] for n in d}


def scaffold(s: Server, cohort: Sequence[int], sign: float = 1, norm: Callable[[Data], float] | None = None) -> None:
    """Option II. ``sign`` and ``norm`` are for tests that make it wrong."""
    trained = s.trained(cohort, lambda i: lambda g, w: {n: g[n] + sign * (s.c[n] - s.own[i][n]) for n in g})
    d = s.mean_update(trained)
    change = {n: np.zeros_like(v) for n, v in s.x.items()}
    for i, w in trained.items():
        a = (norm or s.plan.norm)(s.clients[i])
        new = {n: s.own[i][n] - s.c[n] + (s.x[n] - w[n]) / (s.plan.rate * a) for n in w}
        change = {n: change[n] + new[n] - s.own[i][n] for n in w}
        s.own[i] = new
    s.c = {n: s.c[n] + change[n] / s.total for n in change}
    s.x = {n: s.x[n] + d[n] for n in d}


def scaffold_niid(
    s: Server, cohort: Sequence[int], norm: Callable[[Data], float] | None = None, began: Model | None = None
) -> None:
    """Flower's niid_bench: c - c_i after the optimizer's step, K lr, and c and c_i that begin with the model.

    ``norm`` and ``began`` are for tests that take one of these differences alone.
    """
    if not any(v.any() for v in s.c.values()):
        s.c = {n: v.copy() for n, v in (began or s.x).items()}
    trained, share = {}, s.shares(cohort)
    change = {n: np.zeros_like(v) for n, v in s.x.items()}
    for i in cohort:
        known = any(v.any() for v in s.own[i].values())
        own = s.own[i] if known else {n: v.copy() for n, v in (began or s.x).items()}
        w = train(s.x, s.clients[i], s.plan, after={n: s.plan.rate * (own[n] - s.c[n]) for n in own})
        steps = norm(s.clients[i]) if norm else s.plan.steps(s.clients[i])
        new = {n: own[n] - s.c[n] + (s.x[n] - w[n]) / (s.plan.rate * steps) for n in w}
        change = {n: change[n] + share[i] * (new[n] - own[n]) for n in w}
        trained[i], s.own[i] = w, new
    d = s.mean_update(trained)
    s.c = {n: s.c[n] + len(cohort) / s.total * change[n] for n in change}
    s.x = {n: s.x[n] + d[n] for n in d}


def feddyn(s: Server, cohort: Sequence[int], alpha: float = 0.1) -> None:
    x = s.x
    trained = s.trained(cohort, lambda i: lambda g, w: {n: g[n] - s.own[i][n] + alpha * (w[n] - x[n]) for n in g})
    for i, w in trained.items():
        s.own[i] = {n: s.own[i][n] - alpha * (w[n] - x[n]) for n in w}
    s.h = {n: s.h[n] - alpha / s.total * sum(w[n] - x[n] for w in trained.values()) for n in x}  # type: ignore[misc]
    s.x = {n: np.mean([w[n] for w in trained.values()], axis=0) - s.h[n] / alpha for n in x}


def fednova(s: Server, cohort: Sequence[int]) -> None:
    trained, share = s.trained(cohort), s.shares(cohort)
    a = {i: s.plan.norm(s.clients[i]) for i in cohort}
    scale = sum(share[i] * a[i] for i in cohort)
    s.x = {n: s.x[n] + scale * sum(share[i] * (w[n] - s.x[n]) / a[i] for i, w in trained.items()) for n in s.x}


def fedcm(s: Server, cohort: Sequence[int], alpha: float = 0.1) -> None:
    trained = s.trained(cohort, lambda i: lambda g, w: {n: alpha * g[n] + (1 - alpha) * s.direction[n] for n in g})
    d, share = s.mean_update(trained), s.shares(cohort)
    s.direction = {
        n: sum(  # type: ignore[misc]
            share[i] * (s.x[n] - w[n]) / (s.plan.rate * s.plan.norm(s.clients[i])) for i, w in trained.items()
        )
        for n in s.x
    }
    s.x = {n: s.x[n] + d[n] for n in d}


def qfedavg(s: Server, cohort: Sequence[int], q: float = 1, loss: Callable[[int, Model], float] | None = None) -> None:
    """``loss`` (client, trained weights) is for tests that make it wrong."""
    steepness = 1 / s.plan.rate
    delta = {n: np.zeros_like(v) for n, v in s.x.items()}
    h = 0.0
    for i, w in s.trained(cohort).items():
        f = loss(i, w) if loss else loss_and_gradient(s.x, s.clients[i].x, s.clients[i].y)[0]
        move = {n: steepness * (s.x[n] - w[n]) for n in w}
        delta = {n: delta[n] + f**q * move[n] for n in w}
        h += q * f ** (q - 1) * sum(float((v**2).sum()) for v in move.values()) + steepness * f**q
    s.x = {n: s.x[n] - delta[n] / h for n in delta}


def ditto(s: Server, cohort: Sequence[int], lam: float = 1) -> None:
    """A client's own model is ``own``; zeros there mean that it has none yet."""
    x = s.x
    for i in cohort:
        start = s.own[i] if any(v.any() for v in s.own[i].values()) else x
        s.own[i] = train(start, s.clients[i], s.plan, lambda g, w: {n: g[n] + lam * (w[n] - x[n]) for n in g})
    fedavg(s, cohort)


def apfl(s: Server, cohort: Sequence[int], alpha: float = 0.5, ahead: bool = False) -> None:
    """Algorithm 1 with a fixed alpha. A client's own model is ``own``; zeros there mean that it has none yet.

    ``ahead`` is for tests that make it wrong.
    """
    trained = {}
    for i in cohort:
        start = s.own[i] if any(v.any() for v in s.own[i].values()) else s.x
        trained[i], s.own[i] = in_turn(s.x, start, s.clients[i], s.plan, alpha, ahead)
    d = s.mean_update(trained)
    s.x = {n: s.x[n] + d[n] for n in d}


def in_turn(x: Model, own: Model, data: Data, plan: Plan, alpha: float, ahead: bool) -> tuple[Model, Model]:
    w, v, zeros = x, own, {n: np.zeros_like(value) for n, value in x.items()}
    speed_w, speed_v = zeros, zeros
    for batch in plan.batches(data):
        gw = loss_and_gradient(w, data.x[batch], data.y[batch])[1]
        speed_w = {n: plan.momentum * speed_w[n] + gw[n] for n in w}
        stepped = {n: w[n] - plan.rate * speed_w[n] for n in w}
        mixture = {n: alpha * v[n] + (1 - alpha) * (stepped if ahead else w)[n] for n in w}
        gv = loss_and_gradient(mixture, data.x[batch], data.y[batch])[1]
        speed_v = {n: plan.momentum * speed_v[n] + alpha * gv[n] for n in w}
        v, w = {n: v[n] - plan.rate * speed_v[n] for n in w}, stepped
    return w, v


def fedper(s: Server, cohort: Sequence[int], layers: int = 1) -> None:
    """The last layer is each client's own."""
    heads = {"out.weight", "out.bias"}
    trained = {}
    for i in cohort:
        own = {n: v for n, v in s.own[i].items() if n in heads and v.any()}
        trained[i] = train({**s.x, **own}, s.clients[i], s.plan)
        s.own[i] = {n: trained[i][n] for n in heads}
    d = s.mean_update(trained)
    s.x = {n: s.x[n] if n in heads else s.x[n] + d[n] for n in s.x}


def values(s: Server, cohort: Sequence[int]) -> dict[str, Floats]:
    """Each weight of the trained models, clients in rows."""
    trained = s.trained(cohort)
    return {n: np.array([w[n] for w in trained.values()]) for n in s.x}


def median(s: Server, cohort: Sequence[int]) -> None:
    ordered = {n: np.sort(v, axis=0) for n, v in values(s, cohort).items()}
    low, high = (len(cohort) - 1) // 2, len(cohort) // 2
    s.x = {n: (v[low] + v[high]) / 2 for n, v in ordered.items()}


def trimmed_mean(s: Server, cohort: Sequence[int], beta: float = 0.2) -> None:
    cut = int(beta * len(cohort) + 1e-9)
    ordered = {n: np.sort(v, axis=0) for n, v in values(s, cohort).items()}
    s.x = {n: sum(v[cut : len(cohort) - cut]) / (len(cohort) - 2 * cut) for n, v in ordered.items()}


def krum(s: Server, cohort: Sequence[int], f: int = 1, best: int = 1) -> None:
    found, n = values(s, cohort), len(cohort)
    flat = np.concatenate([v.reshape(n, -1) for v in found.values()], axis=1)
    scores = []
    for i in range(n):
        apart = sorted(float(((flat[i] - flat[j]) ** 2).sum()) for j in range(n) if j != i)
        scores.append(sum(apart[: n - f - 2]))
    chosen = sorted(range(n), key=lambda i: scores[i])[:best]
    s.x = {name: sum(v[i] for i in chosen) / best for name, v in found.items()}


def multikrum(s: Server, cohort: Sequence[int], f: int = 1) -> None:
    krum(s, cohort, f, best=len(cohort) - f)


def accuracy(w: Model, data: Data) -> float:
    logits = np.maximum(data.x @ w[W1].T + w[B1], 0) @ w[W2].T + w[B2]
    return float((logits.argmax(1) == data.y).mean())


_PREFIXES = ("fed", "scaffold", "qfed", "ditto", "apfl", "median", "trimmed", "krum", "multikrum")
ROUNDS: dict[str, Callable[..., Any]] = {
    name: round for name, round in globals().items() if name.startswith(_PREFIXES) and callable(round)
}
