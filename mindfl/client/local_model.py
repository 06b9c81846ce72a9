"""The model of one client: its trainer and files, with the lines that its log has of each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.client.conversation import Conversation
from mindfl.client.flow import ClientConfig, ModelFiles, Trainer
from mindfl.client.log import JobLog, java_float
from mindfl.errors import ClientError, MindflError
from mindfl.protocol import FLPlan, Weights
from mindfl.protocol.values import LIMIT

DEFAULT_LEARNING_RATE = 0.1
"""The reference device's learning rate if the plan says 0."""

ResultT = TypeVar("ResultT")


class LocalModel:
    """Trains, evaluates, loads and saves; failures are :class:`ClientError`, with the client and its iteration.

    Args:
        config: name and evaluation of the client.
        trainer: the model with the client's data.
        talk: the conversation with the server, which knows stage and iteration.
        lines: the client's log.
        files: model files; None: none.
        steady_ms: milliseconds of a monotonic clock, for durations.
    """

    def __init__(
        self,
        config: ClientConfig,
        trainer: Trainer,
        talk: Conversation,
        lines: JobLog,
        files: ModelFiles | None,
        steady_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._talk = talk
        self._lines = lines
        self._files = files
        self._steady_ms = steady_ms
        self._accuracy: float | None = None
        self._evaluated: int | None = None
        self.trained = 0

    def begin(self, task: str) -> None:
        """Log the begin of ``task``, and back up the model files."""
        self._lines.task_started(task)
        if self._files:
            self._files.back_up()
            self._lines.add("backed_up")

    def load(self, weights: Weights | None) -> None:
        """Take over the server's weights."""
        if not weights:
            raise self._talk.error("got a model without weights")
        self.guarded(lambda: self._trainer.load(weights))

    def weights(self) -> Weights:
        """Return the weights as they are now."""
        return self.guarded(self._trainer.weights)

    def save(self) -> None:
        """Save the weights in the model files, if there are any, with what stays with the client."""
        if self._files:
            self._files.save({**getattr(self._trainer, "own", {}), **self.weights()})

    def train(self, plan: FLPlan) -> float:
        """Train as ``plan`` says; return the loss. If it or a weight is not finite, files are restored first."""
        self._talk.stage = "train"
        rate = planned_rate(plan)
        self._lines.add("training_started", iteration=self._talk.iteration, learning_rate=java_float(rate))
        begin = self._steady_ms()
        loss = self.guarded(lambda: self._trainer.train(plan.epochs, rate, self._lines.epoch))
        self._lines.add("run_time", milliseconds=self._steady_ms() - begin)
        endless = None if math.isfinite(loss) else f"the training loss is {loss}"
        largest = [np.abs(values).max(initial=0) for values in self.weights().values()]
        if endless is None and not np.isfinite(largest).all():
            endless = f"the weights are not finite after training, with a loss of {loss:.6g} before the last steps"
        elif endless is None and not all(value < LIMIT for value in largest):
            endless = f"a weight is {max(largest):.3g} after training, more than a server sums (2^36)"
        if endless is not None:
            if self._files:
                self._files.restore()
                self._lines.add("restored")
            self._lines.add("training_failed", loss=java_float(loss))
            raise self.error(endless, hint="lower the learning rate, or check this client's data")
        self._lines.add("training_succeeded")
        self.trained += 1
        return loss

    def received_accuracy(self) -> float | None:
        """Return the accuracy of the model to train from; None if it is neither known nor evaluated."""
        model = self._talk.iteration - 1
        return self.evaluate(model) if self._config.evaluate_received or self._evaluated == model else None

    def evaluate(self, model: int) -> float | None:
        """Return the accuracy of the weights, which are those after iteration ``model``; None without test data."""
        if not self._trainer.eval_size:
            if model < self._talk.iteration:
                self._lines.add("not_evaluated")
            return None
        if self._evaluated != model:
            self._lines.add("evaluation_started", "test_data")
            begin = self._steady_ms()
            self._accuracy = self.guarded(self._trainer.evaluate)
            self._evaluated = model
            took, accuracy = self._steady_ms() - begin, java_float(self._accuracy)
            self._lines.add("accuracy", "run_time", "evaluated", accuracy=accuracy, milliseconds=took)
        return self._accuracy

    def forget_evaluation(self) -> None:
        """Evaluate again even if the number of the model is the same."""
        self._evaluated = None

    def predict(self) -> NDArray[np.int_]:
        """Return the predicted labels of the test data, and log them."""
        self._lines.task_started("modelInference")
        self._lines.add("inference_started", "test_data")
        begin = self._steady_ms()
        try:
            labels = self.guarded(self._trainer.predict)
            self._lines.add("run_time", "inferred", labels=labels.tolist(), milliseconds=self._steady_ms() - begin)
        finally:
            self._lines.flush()
        return labels

    def error(self, cause: str, *, hint: str) -> ClientError:
        """Return the error of this client in the current iteration."""
        return ClientError(self._config.name, self._talk.iteration, cause, hint=hint)

    def guarded(self, action: Callable[[], ResultT]) -> ResultT:
        """Return what ``action`` returns; an error of it becomes this client's."""
        try:
            return action()
        except ClientError:
            raise
        except MindflError as error:
            raise self.error(str(error), hint=error.hint) from error


def planned_rate(plan: FLPlan) -> float:
    """Return the learning rate of a plan: the clients' own where it has none."""
    return plan.lr or DEFAULT_LEARNING_RATE
