"""The effects through which a client's flow asks for the outside world, and what it gives in the end.

A flow is a generator. It yields :class:`Send` and wants the response sent in; it yields :class:`Wait` or
:class:`IterationDone` and wants None, after that time or whenever the next iteration may begin. So the same flow runs
in a simulation, over HTTP, or in a test that steps the clock by hand. While it waits it holds no weights, but for the
model to train from while devices exchange keys: whoever else uses its trainer meanwhile does no harm.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from mindfl.protocol import Request, Response, ResponseCode


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
    """What one client did in one iteration.

    ``loss`` is the mean loss of its last local epoch. Accuracies are shares 0..1 of its test samples, None without
    test data: ``accuracy_before`` of the model it received, ``accuracy`` of the aggregated model of this iteration
    (both also None where ``ClientConfig`` says that it is not evaluated). ``aggregated`` is False where the model of
    this iteration is bitwise that of the one before, although the client uploaded another one: nothing was aggregated.
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


@dataclass(frozen=True, slots=True)
class IterationDone:
    """An iteration ended for this client; it goes on with the next one when resumed."""

    outcome: IterationOutcome


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a training job ended: iterations completed by this client, and the code of its last exchange.

    ``code`` is 200 after the last iteration, and 500 where the server finished or disabled the job before that.
    ``failed`` of the completed iterations aggregated nothing.
    """

    completed: int
    code: ResponseCode
    failed: int = 0


Effect: TypeAlias = Send | Wait | IterationDone
ResultT = TypeVar("ResultT")
Flow: TypeAlias = Generator[Effect, Response | None, ResultT]
