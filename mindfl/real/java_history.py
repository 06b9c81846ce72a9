"""Makes the rows of the history, as simulated clients give them, from the logs of Java clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mindfl.client import Traffic
from mindfl.real.java_log import ClientIteration, JavaLog
from mindfl.sim.evaluation import ClientAccuracies, Evaluated, EvaluatedName
from mindfl.sim.history import IterationRow


def history_rows(logs: Mapping[str, JavaLog], final: Mapping[str, float] | None = None) -> list[IterationRow]:
    """Return a row for each iteration that at least one client completed.

    The accuracies of a row are those of its aggregated model. A Java client evaluates the model that an iteration
    begins with, so they are in the log of the *next* iteration; accuracies in the first iteration are those of the
    initial model and belong to no row.

    Logs contain no weights. An iteration counts as not aggregated if the next one repeats its losses and accuracies
    for every client, as both then began with the same model.

    Args:
        logs: log of each client, by name.
        final: accuracies after the last iteration, see :func:`mindfl.real.java_files.final_accuracies`; without them
            those of the last row are NaN.
    """
    numbers = sorted({number for log in logs.values() for number in log.completed})
    rows: list[IterationRow] = []
    for number in numbers:
        done = [log.completed[number] for log in logs.values() if number in log.completed]
        evaluated = {name: log.accuracies[number + 1] for name, log in logs.items() if number + 1 in log.accuracies}
        if not evaluated and number == numbers[-1]:
            evaluated = dict(final or {})
        pairs = [(name, evaluated.get(name)) for name in logs]
        measured: EvaluatedName = "all" if len(done) == len(logs) else "drawn"
        accuracies = ClientAccuracies.of(pairs, rows[-1].accuracies if rows else None)
        aggregated = not (_repeated(number, logs) or (number == numbers[-1] and _stopped(number, logs, rows, final)))
        rows.append(_row(number, done, Evaluated(measured=measured, accuracies=accuracies), aggregated))
    return rows


def _repeated(number: int, logs: Mapping[str, JavaLog]) -> bool:
    """Return whether the iteration after ``number`` is the same training again; constant losses do not count."""
    pairs = [(log.completed.get(number), log.completed.get(number + 1)) for log in logs.values()]
    both = [(one, next) for one, next in pairs if one and next]
    return bool(both) and all(
        len(set(one.losses)) > 1 and (one.losses, one.accuracy) == (next.losses, next.accuracy) for one, next in both
    )


def _stopped(
    number: int, logs: Mapping[str, JavaLog], rows: Sequence[IterationRow], final: Mapping[str, float] | None
) -> bool:
    """Return whether the last iteration, ``number``, failed as all before did: its model has the same accuracies."""
    begun = {name: log.accuracies[number] for name, log in logs.items() if number in log.accuracies}
    return (
        bool(rows and final)
        and not any(row.aggregated for row in rows)
        and all(
            name in begun and math.isclose(begun[name], value, rel_tol=1e-6) for name, value in (final or {}).items()
        )
    )


def _row(number: int, done: Sequence[ClientIteration], evaluated: Evaluated, aggregated: bool) -> IterationRow:
    return IterationRow.ended(
        number,
        evaluated,
        aggregated=aggregated,
        loss=mean_loss(done),
        clients=len(done),
        samples=sum(each.data_size for each in done),
        steps=sum(each.steps for each in done),
        traffic=Traffic(0, sum(each.bytes_up for each in done), sum(each.bytes_down for each in done)),
        seconds=(max(each.ended for each in done) - min(each.began for each in done)) / 1000,
        learning_rate=done[0].learning_rate,
    )


def mean_loss(done: Sequence[ClientIteration]) -> float:
    """Return the mean loss of the last local epoch, weighted by data sizes; NaN without training."""
    trained = [each for each in done if each.losses]
    samples = sum(each.data_size for each in trained)
    return math.fsum(each.losses[-1] * each.data_size for each in trained) / samples if samples else math.nan
