"""A client's flow: what it is given, the effects through which it asks for the outside world, and its results.

A flow is a generator. It yields :class:`Send` and expects the response to be sent in; it yields :class:`Wait` or
:class:`IterationDone` and expects None, after that time or when the next iteration may begin. So the same flow runs in
a simulation, over HTTP, or in a test that steps the clock by hand. A waiting flow holds no weights, except the model to
train from while devices exchange keys: its trainer may serve other clients meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from mindfl.options.job_options import LENET_CLIENT
from mindfl.protocol import Request, Response, ResponseCode, Weights
from mindfl.spelling import checked_arguments

LONGEST_RETRY_MS = 8_000


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Identity, retry limits and evaluation of a client.

    ``name`` is used in errors. ``fl_id`` identifies the client to the server and is unique in the job (the reference
    uses a random UUID per process). ``fl_name`` is the reference's client class. The file names are only logged, with
    masked folders as in the reference.

    Time limits, in milliseconds: the client polls for the model of the running iteration every ``poll_ms`` and gives up
    after ``poll_limit_ms``; no wait is longer than ``longest_wait_ms``. The reference has 10 s, 3 min and 30 min. It
    also gives up at the second refusal in a row, this client after ``max_restarts`` + 1. A server that is not ready is
    asked again after ``poll_ms``, then after twice that, up to :data:`LONGEST_RETRY_MS`. A request without an answer is
    sent again after ``retry_ms``, also doubled each time, until ``retry_limit_ms`` have passed; the reference gives up
    at once, as ``retry_limit_ms`` of 0 does.

    With ``evaluate_aggregated`` the client evaluates the aggregated model as soon as it arrives, after every
    ``evaluate_every`` iterations and after the last one, and does not evaluate it again when the next iteration starts.
    Without it the client evaluates only when an iteration starts, as the reference does, so never the last model.
    Without ``evaluate_received`` the client evaluates nothing when an iteration starts; it then uploads an accuracy
    only if it has already evaluated the received model.

    With ``compare_models`` the client detects iterations that aggregated nothing: see
    :func:`mindfl.client.uploading.uploads_change`.
    """

    name: str
    fl_id: str
    fl_name: str = LENET_CLIENT
    model_file: str = ""
    train_data: str = ""
    eval_data: str = ""
    poll_ms: int = 200
    poll_limit_ms: int = 1_800_000
    longest_wait_ms: int = 1_800_000
    max_restarts: int = 5
    retry_ms: int = 250
    retry_limit_ms: int = 60_000
    evaluate_aggregated: bool = True
    evaluate_every: int = 1
    evaluate_received: bool = True
    compare_models: bool = True


def evaluation_due(iteration: int, every: int, last: int) -> bool:
    """Return whether the model of ``iteration`` is evaluated: each ``every``-th and the ``last`` one are."""
    return iteration % every == 0 or iteration >= last


EpochReport: TypeAlias = Callable[[int, Sequence[float]], None]
"""Called after each epoch with its number (from 0) and the loss of each of its batches."""


class Trainer(Protocol):
    """A model with one client's data. Sizes count true samples; ``eval_size`` is 0 if there are no test data."""

    @property
    def train_size(self) -> int:
        """Training samples."""

    @property
    def eval_size(self) -> int:
        """Test samples."""

    @property
    def batch_size(self) -> int:
        """Samples per training step."""

    def load(self, weights: Weights) -> None:
        """Load ``weights``. The caller may change them after the call, so copy them if needed."""

    def train(self, epochs: int, learning_rate: float, report: EpochReport) -> float:
        """Train on all samples ``epochs`` times and return the mean loss of the last epoch."""

    def evaluate(self) -> float:
        """Return the share of test samples, 0..1, whose label is predicted."""

    @property
    def class_scores(self) -> NDArray[np.float32] | None:
        """Mean score of each class over the test samples, from the last ``evaluate``; None before."""

    def weights(self) -> Weights:
        """Return the current weights as flat float32 views, valid until the next ``load`` or ``train``."""

    def predict(self) -> NDArray[np.int_]:
        """Return the predicted label of each test sample, in order."""


class ModelFiles(Protocol):
    """The model files of one client. All methods raise :class:`mindfl.errors.MindflError` naming the file."""

    def back_up(self) -> None:
        """Copy the current file."""

    def restore(self) -> None:
        """Restore the copy."""

    def save(self, weights: Weights) -> None:
        """Write the model with these weights."""


@dataclass(frozen=True, slots=True)
class Send:
    """Post this request and send the response into the flow."""

    request: Request


@dataclass(frozen=True, slots=True)
class Wait:
    """Resume the flow after this many milliseconds."""

    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationOutcome:
    """Result of one client in one iteration.

    ``loss`` is the mean loss of its last local epoch. Accuracies are shares 0..1 of its test samples, None without
    test data: ``accuracy_before`` of the model it received, ``accuracy`` of the aggregated model of this iteration
    (both also None if ``ClientConfig`` turns that evaluation off). ``aggregated`` is False if nothing was aggregated:
    the model of this iteration is bitwise equal to the one before, although the client uploaded a different one.
    ``learning_rate`` is that of its training.
    """

    client: str
    iteration: int
    loss: float
    accuracy_before: float | None
    accuracy: float | None
    data_size: int
    eval_size: int
    epochs: int
    aggregated: bool = True
    learning_rate: float = math.nan


@dataclass(frozen=True, slots=True)
class IterationDone:
    """An iteration ended for this client. The flow continues with the next iteration when resumed."""

    outcome: IterationOutcome


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a training job ended: iterations completed by this client, and the code of its last exchange.

    ``code`` is 200 after the last iteration, and 500 if the server finished or disabled the job before that.
    ``failed`` of the completed iterations aggregated nothing.
    """

    completed: int
    code: ResponseCode
    failed: int = 0


Effect: TypeAlias = Send | Wait | IterationDone
ResultT = TypeVar("ResultT")
Flow: TypeAlias = Generator[Effect, Response | None, ResultT]
