"""The rounds of a job, top to bottom: choose, send, train, upload, aggregate, evaluate, record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from mindfl.client import Traffic
from mindfl.sim.callbacks import Callback, Model
from mindfl.sim.confusion import Confusions
from mindfl.sim.evaluation import Evaluated
from mindfl.sim.history import IterationRow
from mindfl.sim.participant import ClientResult


@dataclass(frozen=True, kw_only=True)
class TrainedRound:
    """A round whose clients have trained and uploaded, and have fetched the model that the server made of it.

    ``results`` are the clients' by number, ``seconds`` is None where the loop measures the time. ``learning_rate`` is
    that of the plan which the clients received.
    """

    iteration: int
    results: Mapping[int, ClientResult] = field(default_factory=dict)
    seconds: float | None = None
    learning_rate: float = math.nan

    @property
    def steps(self) -> int:
        """Training steps of one batch."""
        return sum(result.steps for result in self.results.values())


@dataclass(frozen=True, kw_only=True)
class Aggregated:
    """What the server made of a round: whether it is ``valid``, else the model is that of the round before; the mean
    ``loss`` of the uploads, weighted by samples; training ``samples``."""

    valid: bool
    loss: float
    samples: int


class Run(Protocol):
    """How the steps of a round are done: in this process, at a server elsewhere, or by Java clients.

    Args:
        first, iterations: the first and the last round. A server elsewhere may change both.
        resumable: whether ``values``, ``arrays`` and ``model`` are all that the next round depends on.
        stepwise: whether ``model`` is that of the latest round; else it is known at the end only, and no callback can
            end the run earlier.
    """

    first: int
    iterations: int
    resumable: bool
    stepwise: bool

    @property
    def model(self) -> Model:
        """The latest model, flat float32 arrays by name."""

    @property
    def values(self) -> Mapping[str, Any]:
        """The state after the latest round, beside the model, by name."""

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Arrays of the state likewise."""

    def saved(self, iteration: int) -> None:
        """Take note that the state after ``iteration`` has been saved."""

    @property
    def traffic(self) -> Traffic:
        """What clients and server have exchanged so far."""

    def choose(self, iteration: int) -> Sequence[int] | None:
        """Return the cohort of a round: clients by number, ascending; None where a server elsewhere chooses."""

    def train(self, iteration: int, cohort: Sequence[int] | None) -> TrainedRound | None:
        """Let the cohort fetch the model, train and upload; None: the server has ended its job."""

    def aggregate(self, trained: TrainedRound) -> Aggregated:
        """Return what the server made of the uploads."""

    def evaluate(self, trained: TrainedRound) -> Evaluated:
        """Return the evaluation of the new model, so far as it is known."""

    def finish(self) -> None:
        """End the clients' jobs in good order, after the last round."""

    def close(self) -> None:
        """End threads, processes and connections; safe at any time."""


def run_rounds(
    run: Run,
    callbacks: Sequence[Callback],
    spent: Callable[[int], float],
    confusions: Confusions | None = None,
    clients: int | None = None,
) -> str:
    """Run the rounds of a job.

    Args:
        run: how each step is done. It tells the callbacks of each upload.
        callbacks: are given each round's row, in order.
        spent: returns the privacy cost (epsilon) of so many rounds; NaN if it is not counted.
        confusions: is told of each evaluation.
        clients: number of the job's clients; rows of rounds without some of them name those that took part.

    Returns:
        The name of the callback that ended the run; empty where all rounds ran.
    """
    with closing(run):
        iteration, stopped, before = run.first, "", run.traffic
        while iteration <= run.iterations and not stopped:
            begin = time.perf_counter()
            # Choose: the sampler draws the cohort, or the server elsewhere takes those that come first.
            cohort = run.choose(iteration)
            # Send, train, upload: each client fetches the model, trains on its data and uploads its weights.
            trained = run.train(iteration, cohort)
            if trained is None:
                return stopped
            # Aggregate: with the last upload, the server has made the next model.
            aggregated = run.aggregate(trained)
            # Evaluate: the new model on the test data of clients, or on a central test set.
            evaluated = run.evaluate(trained)
            per_class = confusions.note(trained.iteration, evaluated) if confusions is not None else None
            # Record: history, state, models, figure and progress bar are callbacks, as are the user's.
            traffic, seconds = run.traffic, time.perf_counter() - begin
            row = IterationRow.ended(
                trained.iteration,
                evaluated,
                aggregated=aggregated.valid,
                loss=aggregated.loss,
                clients=len(trained.results),
                samples=aggregated.samples,
                steps=trained.steps,
                traffic=traffic - before,
                seconds=seconds if trained.seconds is None else trained.seconds,
                epsilon=spent(trained.iteration),
                learning_rate=trained.learning_rate,
                participants=trained.results if clients is not None and len(trained.results) < clients else (),
                per_class=per_class,
            )
            model = run.model if run.stepwise else {}
            stops = [callback.name for callback in callbacks if callback.row(row, model)]
            stopped = ", ".join(stops) if run.stepwise else ""
            iteration, before = trained.iteration + 1, traffic
        run.finish()
    return stopped
