"""What is compared of runs: one number of each, over its seeds with mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from statistics import fmean, stdev

from mindfl.algorithms.naming import federates
from mindfl.errors import OptionError
from mindfl.sim.history import IterationRow
from mindfl.sim.result import Result
from mindfl.spelling import did_you_mean


@dataclass(frozen=True)
class RunMeasure:
    """A column of a comparison.

    Args:
        name: as ``--columns`` names it.
        title: above the column, with its unit.
        digits: decimal places in tables to be read.
        value: its number of a result, where the target accuracy is the second argument; NaN if there is none.
        unit: what it is divided by in tables to be read.
    """

    name: str
    title: str
    digits: int
    value: Callable[[Result, float], float]
    unit: float = 1


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (that of a sample) of the known ``values``, of so many ``runs``.

    Example:
        >>> Spread.of([0.5, 0.75, math.nan]).text(2)
        '0.62 ± 0.18 (2 of 3)'
    """

    mean: float
    deviation: float
    known: int
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return that of ``values``; NaN where no number, or for the deviation only one, is known."""
        given = list(values)
        known = [value for value in given if math.isfinite(value)]
        mean = fmean(known) if known else math.nan
        return cls(mean, stdev(known) if len(known) > 1 else math.nan, len(known), len(given))

    def text(self, digits: int, *, sign: str = "", unit: float = 1) -> str:
        """Return mean and deviation with so many decimal places, in this unit; a dash if nothing is known.

        Where all numbers are equal there is no deviation.
        """
        if not self.known:
            return "-"
        spread = f" ± {self.deviation / unit:,.{digits}f}" if self.deviation > 0 else ""
        part = "" if self.known == self.runs else f" ({self.known} of {self.runs})"
        return f"{self.mean / unit:{sign},.{digits}f}{spread}{part}"


def _last(name: str, result: Result, target: float) -> float:
    rows = result.history.evaluated
    return float(getattr(rows[-1], name)) if rows else math.nan


def _best(result: Result, target: float) -> float:
    best = result.history.best
    return math.nan if best is None else best.avg


def _sum(name: str, result: Result, target: float) -> float:
    return math.fsum(result.history.column(name))


def _bytes(name: str, result: Result, target: float) -> float:
    """Of a baseline it is not known: the simulation moves its models as it does others, and devices would not."""
    return _sum(name, result, target) if federates(str(result.settings.get("algorithm"))) else math.nan


def _rounds(result: Result, target: float) -> float:
    return len(result.history)


def _speed(result: Result, target: float) -> float:
    seconds = math.fsum(result.history.column("seconds"))
    return math.fsum(result.history.column("steps")) / seconds if seconds else math.nan


def _latest(name: str, result: Result, target: float) -> float:
    known = [number for number in result.history.column(name) if not math.isnan(number)]
    return known[-1] if known else math.nan


def reached(result: Result, target: float) -> IterationRow | None:
    """Return the first row whose AVG is at least ``target`` (at most, where lower is better); None if there is none."""
    lower = result.history.metric.lower_is_better
    return next((row for row in result.history.evaluated if (row.avg <= target if lower else row.avg >= target)), None)


def _rounds_to(result: Result, target: float) -> float:
    row = reached(result, target)
    return math.nan if row is None else row.iteration


def _seconds_to(result: Result, target: float) -> float:
    row = reached(result, target)
    sums = dict(zip(result.history.column("iteration"), accumulate(result.history.column("seconds")), strict=True))
    return math.nan if row is None else sums[row.iteration]


MEGABYTE = 1e6
#: name of the column of paired differences
DIFFERENCE = "difference"
#: those that are shown where none are asked for, as far as they are known
SHOWN = (
    "avg",
    "best",
    "top5",
    "low5",
    "loss",
    "rounds",
    "rounds_to_target",
    "seconds_to_target",
    "bytes_up",
    "seconds",
    "epsilon",
)
#: those that need a target
TARGETED = ("rounds_to_target", "seconds_to_target")
MEASURES = {
    measure.name: measure
    for measure in (
        RunMeasure("avg", "AVG", 4, partial(_last, "avg")),
        RunMeasure("best", "best AVG", 4, _best),
        RunMeasure("top5", "TOP5", 4, partial(_last, "top5")),
        RunMeasure("low5", "LOW5", 4, partial(_last, "low5")),
        RunMeasure("weighted_avg", "AVG by samples", 4, partial(_last, "weighted_avg")),
        RunMeasure("loss", "loss", 4, partial(_latest, "loss")),
        RunMeasure("rounds", "rounds", 0, _rounds),
        RunMeasure("rounds_to_target", "rounds to {target:g}", 1, _rounds_to),
        RunMeasure("seconds_to_target", "s to {target:g}", 1, _seconds_to),
        RunMeasure("bytes_down", "MB down", 1, partial(_bytes, "bytes_down"), MEGABYTE),
        RunMeasure("bytes_up", "MB up", 1, partial(_bytes, "bytes_up"), MEGABYTE),
        RunMeasure("seconds", "s", 1, partial(_sum, "seconds")),
        RunMeasure("steps_per_s", "steps/s", 0, _speed),
        RunMeasure("epsilon", "epsilon", 3, partial(_latest, "epsilon")),
    )
}


def chosen_measures(names: Sequence[str], results: Iterable[Result]) -> list[RunMeasure]:
    """Return the measures ``names``; those that are not :data:`MEASURES` are metrics of callbacks, their last numbers.

    Raises :class:`OptionError` for an unknown name.
    """
    own = dict.fromkeys(name for result in results for row in result.history for name in row.metrics)
    for name in dict.fromkeys(names):
        if name not in MEASURES and name not in own:
            raise OptionError(f"--columns: no run has {name!r}", hint=did_you_mean(name, [*MEASURES, DIFFERENCE, *own]))
    return [MEASURES.get(name) or RunMeasure(name, name, 4, partial(_latest, name)) for name in dict.fromkeys(names)]
