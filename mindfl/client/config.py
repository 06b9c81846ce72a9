"""Settings of one device client."""

from __future__ import annotations

from dataclasses import dataclass

from mindfl.options.job import LENET_CLIENT
from mindfl.spelling import checked_arguments

LONGEST_RETRY_MS = 8_000


@checked_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Who a client is and how patient it is.

    ``name`` is used in errors. ``fl_id`` is what the server knows the client by: unique in the job (the reference uses
    a random UUID per process). ``fl_name`` is the reference's client class. The file names go into the log only, their
    folders masked as there.

    Patience, in milliseconds: the model of the running iteration is asked for every ``poll_ms`` and given up after
    ``poll_limit_ms``; no wait is longer than ``longest_wait_ms``. The reference has 10 s, 3 min and 30 min. It also
    gives up at the second refusal in a row; here that is ``max_restarts`` + 1, and a server that is not ready is asked
    after ``poll_ms``, then twice that and so on up to :data:`LONGEST_RETRY_MS`. A request that got no answer is sent
    again after ``retry_ms``, likewise doubled, until ``retry_limit_ms`` have passed; the reference gives up at the
    first. ``retry_limit_ms`` of 0 does so too.

    With ``evaluate_aggregated`` the aggregated model is evaluated as soon as it arrives (and not once more when the
    next iteration starts with it), after every ``evaluate_every`` iterations and after the last; without, the client
    evaluates only when it starts, as the reference does, and never the last model. Without ``evaluate_received`` the
    client evaluates nothing when it starts, so it uploads no accuracy unless it knows that of the model it received.

    With ``compare_models`` the client notices where an iteration aggregated nothing: see
    :mod:`mindfl.client.comparison`.
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
    """Return whether the model of ``iteration`` is evaluated: every ``every``-th one, and that of the ``last``."""
    return iteration % every == 0 or iteration >= last
