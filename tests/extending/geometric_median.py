"""The geometric median of the clients' weights (arXiv 1912.13445), by Weiszfeld's iteration."""

import numpy as np

from mindfl.algorithms import Algorithm, Step


class GeometricMedian(Algorithm):
    needs_uploads = True

    def __init__(self, steps=20):
        self.steps = steps

    def step(self, round):
        points = np.array([np.concatenate([upload.weights[n] for n in round.model]) for upload in round.uploads], float)
        middle = np.median(points, axis=0)
        for _ in range(self.steps):
            apart = np.sqrt(((points - middle) ** 2).sum(axis=1))
            middle = np.average(points, axis=0, weights=1 / np.maximum(apart, 1e-9))
        ends = np.cumsum([w.size for w in round.model.values()])[:-1]
        return Step(model=dict(zip(round.model, np.split(middle, ends), strict=True)))
