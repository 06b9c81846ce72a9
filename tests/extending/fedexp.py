"""FedExP (arXiv 2301.09604): the server steps further where the clients' updates disagree."""

import numpy as np

from mindfl.algorithms import Algorithm, Step, Upload


class FedExP(Algorithm):
    def __init__(self, eps=1e-3):
        self.eps = eps

    def extras(self, model):
        return {"norm": np.zeros(1)}

    def end(self, client):
        return Upload(extras={"norm": [square(client.trained, client.received)]})

    def step(self, round):
        eta = max(1, round.extras["norm"][0] / (2 * (square(round.average, round.model) + self.eps)))
        return Step(model={n: w + eta * (round.average[n] - w) for n, w in round.model.items()})


def square(new, old):
    return sum(np.sum((new[n] - old[n].astype(float)) ** 2) for n in old)
