"""A stand-in for a training engine: it "trains" by adding fixed numbers, so every result can be worked out by hand."""

import numpy as np

from mindfl.client import ClientConfig, DeviceClient
from mindfl.server import Coordinator, ServerConfig

T0 = 1_795_333_460_000
INITIAL = {"fc.weight": np.zeros(3, np.float32), "conv.weight": np.zeros(2, np.float32)}


class Clock:
    """Time that moves only when told to."""

    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now

    def sleep(self, milliseconds):
        assert milliseconds > 0
        self.now += milliseconds


class StandInTrainer:
    """Adds ``step`` to every weight per epoch; losses and accuracies are given or simple functions of the epoch."""

    def __init__(self, train_size=32, eval_size=32, batch_size=32, step=1.0, losses=(4.125, 4.025), accuracy=0.75):
        self.train_size, self.eval_size, self.batch_size = train_size, eval_size, batch_size
        self.step, self.losses, self.accuracy = step, list(losses), accuracy
        self.calls = []
        self._weights = {}
        self.class_scores = None

    def load(self, weights):
        self.calls.append("load")
        self._weights = {name: values.copy() for name, values in weights.items()}

    def train(self, epochs, learning_rate, report):
        self.calls.append(f"train {epochs} {np.float32(learning_rate)!s}")
        for values in self._weights.values():
            values += np.float32(self.step * epochs)
        base = self.losses.pop(0)
        batches = -(-self.train_size // self.batch_size)
        for epoch in range(epochs):
            losses = [base - 0.01 * (epoch * batches + batch) for batch in range(batches)]
            report(epoch, losses)
        return sum(losses) / len(losses)

    def evaluate(self):
        self.calls.append("evaluate")
        self.class_scores = np.array([self.accuracy, 0.5, -1.25], np.float32)
        return self.accuracy

    def weights(self):
        return self._weights

    def predict(self):
        self.calls.append("predict")
        return np.array([0, 0, 1, 2])


def server(clients=1, iterations=2, weights=INITIAL, **changes):
    records = []
    settings = {
        "fl_iteration_num": iterations,
        "start_fl_job_threshold": clients,
        "start_fl_job_time_window": 30_000,
        "update_model_time_window": 30_000,
        "global_iteration_time_window": 60_000,
        **changes,
    }
    return Coordinator(ServerConfig(**settings), weights, on_iteration_end=records.append), records


def device(name="f0", trainer=None, clock=None, log=None, files=None, steady=None, **changes):
    config = ClientConfig(name=name, fl_id=f"id-{name}", **changes)
    clock = clock or Clock()
    return DeviceClient(config, trainer or StandInTrainer(), clock, log, files, steady_ms=steady or clock)
