"""A sampler: each client takes part with a probability of its own, so the cohorts differ in size."""

import numpy as np


class Poisson:
    def __init__(self, probability=0.5):
        self.probability = probability

    def rate(self, clients):
        return self.probability

    def sample(self, clients, iteration, rng, state):
        state["drawn"] = state.get("drawn", 0) + 1
        return np.flatnonzero(rng.random(clients) < self.probability)
