"""Updates rounded at random to a few levels, right on average (QSGD, arXiv 1610.02132)."""

import numpy as np

from mindfl.modes import UploadMode


class Levels(UploadMode):
    """Each weight's update is a scale and whole numbers from -levels to levels."""

    def __init__(self, levels=15):
        self.levels = levels

    def describe(self):
        return f"{self.levels} levels"

    def encode(self, trained):
        random, arrays = trained.generator(), {}
        for name, weights in trained.weights.items():
            change = weights - trained.received[name]
            scale = np.abs(change).max() / self.levels
            steps = np.floor(change / (scale or 1) + random.random(change.size))
            arrays[name] = steps.astype(np.int8)
            arrays[f"{name}/scale"] = scale
        return arrays

    def decode(self, arrays, model):
        return {name: weights + arrays[name] * arrays[f"{name}/scale"] for name, weights in model.items()}
