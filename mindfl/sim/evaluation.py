"""Which iterations' models are evaluated, and with whose test data: decided from counts, never from a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mindfl.client.flow import evaluation_due
from mindfl.options.job import EvaluateName
from mindfl.sim.history import History
from mindfl.spelling import counted

#: a training step of a batch, forward and backward, costs about so many evaluations of one
_FORWARDS_PER_STEP = 3


@dataclass(frozen=True)
class Evaluation:
    """The models of every ``every``-th iteration and of the last one are evaluated.

    ``clients``: "all" of the job, or those that were "drawn" for the iteration.
    """

    clients: EvaluateName = "all"
    every: int = 1

    def due(self, iteration: int, iterations: int) -> bool:
        """Return whether the model of ``iteration`` is evaluated, in a job of ``iterations``."""
        return evaluation_due(iteration, self.every, iterations)


def affordable_every(sizes: Sequence[tuple[int, int]], *, batch_size: int, epochs: int, cohort: int) -> int:
    """Return the smallest interval at which evaluating all clients costs no more than training the drawn ones.

    ``sizes`` are the train and test samples of each client; ``cohort`` of them are drawn for an iteration. Where all
    are drawn, each has the model at hand, so every iteration is evaluated.
    """
    if cohort >= len(sizes):
        return 1
    steps = sum(-(-train // batch_size) for train, _ in sizes)
    forwards = sum(-(-test // batch_size) for _, test in sizes)
    # An iteration trains steps / clients * cohort batches, on average.
    return max(1, -(-forwards * len(sizes) // (_FORWARDS_PER_STEP * epochs * steps * cohort)))


def measured_clients(history: History, *, untested: int = 0) -> str:
    """Return in words whose test data the accuracies in ``history`` are of; ``untested`` clients have none."""
    rows = history.evaluated
    if not rows:
        return "no client: none has test data" if any(row.measured for row in history) else "no client"
    counts = sorted({row.evaluated or len(row.accuracies) for row in rows})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "client" if counts == [1] else "clients"
    kinds = {row.measured for row in rows}
    if kinds == {"all"}:
        return f"all {number} {noun}" + " that have test data" * bool(untested)
    return f"{number} {noun}, all or the drawn ones" if "all" in kinds else f"the {number} drawn {noun}"


def measured_iterations(history: History) -> str:
    """Return in words after which iterations of ``history`` clients were evaluated."""
    numbers = [int(row.iteration) for row in history.evaluated]
    if len(numbers) == len(history):
        return "every iteration"
    if len(numbers) <= 1:
        return f"iteration {numbers[0]}" if numbers else "no iteration"
    *gaps, last = [after - before for before, after in zip([0, *numbers], numbers, strict=False)]
    if len(set(gaps)) == 1 and last <= gaps[0]:
        return f"every {counted(gaps[0], 'iteration')}" + " and the last" * (last < gaps[0])
    return f"{len(numbers)} of {counted(len(history), 'iteration')}"
