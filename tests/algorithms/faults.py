"""Rounds with faults that public implementations have, or had, beside the right ones of :mod:`oracle`.

Each takes the place of the round of the algorithm that its name begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import oracle
from oracle import Model, Server, loss_and_gradient, train


def scaffold_with_inverted_sign(s: Server, cohort: Sequence[int]) -> None:
    """c_i from w - x, while gradients get c - c_i (apple/pfl-research)."""
    oracle.scaffold(s, cohort, sign=-1)


def scaffold_with_steps_for_norm(s: Server, cohort: Sequence[int]) -> None:
    """K lr in place of A lr under momentum (NIID-Bench, fluke, Flower's niid_bench, MindSpore Federated)."""
    oracle.scaffold(s, cohort, norm=lambda data: float(s.plan.steps(data)))


def scaffold_without_epochs(s: Server, cohort: Sequence[int]) -> None:
    """K counts the batches of one epoch."""
    oracle.scaffold(s, cohort, norm=lambda data: s.plan.norm(data) / s.plan.epochs)


def scaffold_from_the_model(s: Server, cohort: Sequence[int]) -> None:
    """c begins at weights in place of zeros."""
    if not any(v.any() for v in s.c.values()):
        s.c = {n: v.copy() for n, v in s.x.items()}
    oracle.scaffold(s, cohort)


def scaffold_with_whole_c(s: Server, cohort: Sequence[int]) -> None:
    """c moves by the clients' new c_i in place of their changes."""
    before = {i: dict(s.own[i]) for i in cohort}
    oracle.scaffold(s, cohort)
    s.c = {n: v + sum(before[i][n] for i in cohort) / s.total for n, v in s.c.items()}


def scaffold_outside_the_momentum(s: Server, cohort: Sequence[int]) -> None:
    """c - c_i moves the weights after the optimizer's step (niid_bench, NIID-Bench, MindSpore Federated)."""
    oracle.scaffold_niid(s, cohort, norm=s.plan.norm, began={n: np.zeros_like(v) for n, v in s.x.items()})


def fedadam_with_bias_correction(s: Server, cohort: Sequence[int]) -> None:
    """The rate of Kingma and Ba, which the paper's algorithm 2 does not have (Flower)."""
    s.rounds = getattr(s, "rounds", 0) + 1
    oracle.fedadam(s, cohort, eta=0.01 * np.sqrt(1 - 0.99 ** (s.rounds + 1)) / (1 - 0.9 ** (s.rounds + 1)))


def qfedavg_with_the_loss_after_training(s: Server, cohort: Sequence[int]) -> None:
    """F_i of the trained weights (Flower)."""
    oracle.qfedavg(s, cohort, loss=lambda i, w: loss_and_gradient(w, s.clients[i].x, s.clients[i].y)[0])


def qfedavg_with_summed_loss(s: Server, cohort: Sequence[int]) -> None:
    """F_i summed over the batches of an epoch (FedLab)."""

    def summed(i: int, w: Model) -> float:
        steps = s.plan.steps(s.clients[i]) // s.plan.epochs
        return steps * loss_and_gradient(s.x, s.clients[i].x, s.clients[i].y)[0]

    oracle.qfedavg(s, cohort, loss=summed)


def fedprox_with_a_mean(s: Server, cohort: Sequence[int], mu: float = 0.1) -> None:
    """The mean over a tensor in place of the sum, so mu is divided by its size (MindSpore Federated)."""
    x = s.x
    d = s.mean_update(s.trained(cohort, lambda i: lambda g, w: {n: g[n] + mu / x[n].size * (w[n] - x[n]) for n in g}))
    s.x = {n: x[n] + d[n] for n in d}


def fedprox_of_a_server_alone(s: Server, cohort: Sequence[int]) -> None:
    """mu is sent, and clients train plainly (Flower's strategy without a client part)."""
    oracle.fedavg(s, cohort)


def _fednova(s: Server, cohort: Sequence[int], share: dict[int, float], *, models: bool = False) -> None:
    trained, a = s.trained(cohort), {i: s.plan.norm(s.clients[i]) for i in cohort}
    scale = sum(share[i] * a[i] for i in cohort)
    from_ = {n: np.zeros_like(v) if models else v for n, v in s.x.items()}
    s.x = {n: v + scale * sum(share[i] * (w[n] - v) / a[i] for i, w in trained.items()) for n, v in from_.items()}


def fednova_of_models(s: Server, cohort: Sequence[int]) -> None:
    """Weights that do not sum to one, applied to models in place of updates (fluke)."""
    _fednova(s, cohort, s.shares(cohort), models=True)


def fednova_without_samples(s: Server, cohort: Sequence[int]) -> None:
    """p_i does not depend on the clients' samples (MindSpore Federated, FedLab)."""
    _fednova(s, cohort, dict.fromkeys(cohort, 1 / len(cohort)))


def fednova_scaled(s: Server, cohort: Sequence[int]) -> None:
    """The update times N / |S| (FedLab's default)."""
    began = s.x
    oracle.fednova(s, cohort)
    s.x = {n: began[n] + (v - began[n]) * s.total / len(cohort) for n, v in s.x.items()}


def ditto_with_a_fixed_pull(s: Server, cohort: Sequence[int]) -> None:
    """lam is .1 whatever is set (a version of FedLab)."""
    oracle.ditto(s, cohort, lam=0.1)


def apfl_mixed_once_a_round(s: Server, cohort: Sequence[int], alpha: float = 0.5) -> None:
    """v_i is trained by its own gradient alone, and mixed with w at the end of the round (PFLlib)."""
    for i in cohort:
        start = s.own[i] if any(v.any() for v in s.own[i].values()) else s.x
        own, w = train(start, s.clients[i], s.plan), train(s.x, s.clients[i], s.plan)
        s.own[i] = {n: alpha * own[n] + (1 - alpha) * w[n] for n in w}
    oracle.fedavg(s, cohort)


def apfl_with_the_next_w(s: Server, cohort: Sequence[int]) -> None:
    """The gradient of v_i is taken at a mixture with w after its step (FedTorch)."""
    oracle.apfl(s, cohort, ahead=True)


FAULTS: dict[str, Callable[..., Any]] = {
    name: function
    for name, function in globals().items()
    if getattr(function, "__module__", "") == __name__ and name[0] != "_"
}
