"""The history of a job, one row per iteration: in memory, as JSON lines, and as CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mindfl.client import Traffic
from mindfl.errors import DataError, OptionError
from mindfl.files import PathLike, append_to, read_file, write_atomic
from mindfl.options.job_options import MetricName
from mindfl.sim.evaluation import Evaluated, EvaluatedName
from mindfl.sim.frames import client_frame, row_frame
from mindfl.sim.metrics import ACCURACY, METRICS, Measure
from mindfl.sim.tables import csv_text
from mindfl.spelling import counted
from mindfl.work_files import HISTORY

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True, slots=True)
class IterationRow:
    """One round. Accuracies are those of its aggregated model, 0 to 1.

    Args:
        iteration: number of the round, from 1.
        avg, top5, low5: mean accuracy of the evaluated clients, of the five best and of the five worst; NaN where no
            client was evaluated. With a central test set ``avg`` is the accuracy on it, the others are NaN.
        loss: mean loss of the clients' last local epoch, weighted by their training samples.
        clients: clients that took part.
        samples: their training samples.
        bytes_down, bytes_up: bytes of the weights that were sent to them and uploaded by them, as encoded.
        steps: training steps of one batch, over all clients.
        steps_per_s: steps per second of wall time.
        seconds: wall time of the round, evaluation included.
        epsilon: what the rounds so far cost in privacy; NaN where that is not counted.
        evaluated: number of clients that were evaluated.
        measured: what the model was evaluated on: the test data of "all" clients that have any, of those "drawn" for
            the round, the "central" test set, or "": on nothing.
        aggregated: False where the round failed at the server; its model is then the one that it began with.
        test_samples: test samples that the model was evaluated on; 0 where that is not known.
        weighted_avg: share of them that was predicted correctly: the mean accuracy weighted by test samples.
        learning_rate: that of the clients' local training in this round; NaN where it is not known.
        participants: numbers of the clients that took part, ascending, where not all of the job did; else empty.
        accuracies: accuracy of each evaluated client by name.
        per_class: accuracy on the test samples of each class by name, with ``per_class=True``; NaN for a class without.
        metrics: numbers that callbacks added, by name.
        metric: what ``avg`` and all other accuracies are: "accuracy", or of other jobs "perplexity" or "loss". Of these
            the best clients are those with the lowest values, and ``weighted_avg`` is the value over all samples.

    Example:
        >>> row = result.history[-1]
        >>> row.measured, row.clients, row.low5 <= row.avg <= row.top5
        ('all', 2, True)
    """

    iteration: int
    avg: float
    top5: float
    low5: float
    loss: float
    clients: int
    samples: int
    bytes_down: int
    bytes_up: int
    steps: int
    steps_per_s: float
    seconds: float
    epsilon: float = math.nan
    evaluated: int = 0
    measured: EvaluatedName = ""
    aggregated: bool = True
    test_samples: int = 0
    weighted_avg: float = math.nan
    learning_rate: float = math.nan
    participants: tuple[int, ...] = ()
    accuracies: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    metric: MetricName = "accuracy"

    @classmethod
    def ended(
        cls,
        iteration: int,
        evaluated: Evaluated,
        *,
        aggregated: bool = True,
        loss: float,
        clients: int,
        samples: int,
        steps: int,
        traffic: Traffic,
        seconds: float,
        epsilon: float = math.nan,
        learning_rate: float = math.nan,
        participants: Iterable[int] = (),
        per_class: Mapping[str, float] | None = None,
    ) -> IterationRow:
        """Return the row of an iteration: AVG, TOP5 and LOW5 follow from ``evaluated``, the speed from ``steps``.

        ``traffic`` is that of this iteration alone, ``seconds`` its wall time, NaN if it is unknown. ``learning_rate``
        is a float32, of which the shortest decimal is kept.
        """
        return cls(
            iteration=iteration,
            **evaluated.summary._asdict(),
            loss=loss,
            clients=clients,
            samples=samples,
            bytes_down=traffic.bytes_down,
            bytes_up=traffic.bytes_up,
            steps=steps,
            steps_per_s=round(steps / seconds, 1) if seconds else math.nan,
            seconds=round(seconds, 3),
            epsilon=epsilon,
            evaluated=len(evaluated.accuracies),
            measured=evaluated.measured,
            aggregated=aggregated,
            test_samples=evaluated.samples,
            weighted_avg=evaluated.weighted_avg,
            learning_rate=math.nan if math.isnan(learning_rate) else float(str(np.float32(learning_rate))),
            participants=tuple(sorted(participants)),
            accuracies=evaluated.accuracies,
            per_class=per_class or {},
            metric=evaluated.metric.name,
        )


#: key and column of the name of the metric, if it is another than accuracy
_METRIC = "metric"
#: what stands in ``history.jsonl`` only
_NAMED = ("participants", "accuracies", "per_class", "metrics", "metric")
COLUMNS = tuple(item.name for item in fields(IterationRow) if item.name not in _NAMED)


class History(Sequence[IterationRow]):
    """The rows of a job, in order. Reads and writes ``history.jsonl`` (complete) and ``history.csv`` (without clients).

    Args:
        rows: the first rows.

    Example:
        >>> history = History.load("run/history.jsonl")
        >>> [row.iteration for row in history]
        [1]
    """

    def __init__(self, rows: Iterable[IterationRow] = ()) -> None:
        self._rows = list(rows)

    @classmethod
    def load(cls, path: PathLike) -> History:
        """Read a ``history.jsonl``; a last line that was cut off is left out. Raises :class:`DataError`.

        mindfl 0.1.0 evaluated the clients that took part, and did not write so.
        """
        lines = read_file(path).decode(errors="replace").rstrip("\n").split("\n")
        rows = []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(read_row(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                if number == len(lines):
                    break
                raise DataError(f"line {number} of {path} is no history entry") from None
        return cls(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> IterationRow: ...

    @overload
    def __getitem__(self, index: slice) -> list[IterationRow]: ...

    def __getitem__(self, index: int | slice) -> IterationRow | list[IterationRow]:
        return self._rows[index]

    def __iter__(self) -> Iterator[IterationRow]:
        return iter(self._rows)

    def _repr_html_(self) -> str:
        from mindfl.sim.notebook import history_html

        return history_html(self)

    def append(self, row: IterationRow) -> None:
        """Add a row in memory."""
        self._rows.append(row)

    @property
    def evaluated(self) -> list[IterationRow]:
        """The rows that hold accuracies."""
        return [row for row in self._rows if not math.isnan(row.avg)]

    @property
    def best(self) -> IterationRow | None:
        """The row with the best AVG, the first of equal ones; None where nothing was evaluated."""
        metric, best = self.metric, None
        for row in self._rows:
            if metric.better(row.avg, math.nan if best is None else best.avg):
                best = row
        return best

    @property
    def metric(self) -> Measure:
        """What the rows were measured by."""
        return next((METRICS[row.metric] for row in self.evaluated), ACCURACY)

    @property
    def aggregated(self) -> int:
        """The number of iterations that aggregated something."""
        return sum(row.aggregated for row in self._rows)

    def to_pandas(self, *, clients: bool = False) -> DataFrame:
        """Return the history as a pandas DataFrame, one row per iteration.

        Its columns are those of ``history.csv``: the fields of :class:`IterationRow`, and the metrics of callbacks.
        What is not known is NaN.

        Args:
            clients: return one row for each evaluated client of each iteration instead: ``client``, ``iteration``, and
                ``accuracy``, or what else the job was measured by.

        Raises:
            OptionError: pandas is not installed.

        Example:
            >>> history = History.load("run/history.jsonl")
            >>> history.to_pandas()[["iteration", "clients", "measured"]].to_dict("records")
            [{'iteration': 1, 'clients': 2, 'measured': 'all'}]
            >>> list(history.to_pandas(clients=True).columns)
            ['client', 'iteration', 'accuracy']
        """
        if clients:
            return client_frame(self._rows, self.metric.name)
        return row_frame(self._rows, [*COLUMNS, *[_METRIC] * (self.metric != ACCURACY)])

    def column(self, name: str) -> list[float]:
        """Return one column, such as ``"avg"``, or one metric, NaN where a row has none."""
        if any(name in row.metrics for row in self._rows):
            return [row.metrics.get(name, math.nan) for row in self._rows]
        return [getattr(row, name) for row in self._rows]


def read_row(line: str | bytes) -> IterationRow:
    """Return the row that a line of ``history.jsonl`` holds.

    Raises ``ValueError``, ``TypeError``, ``KeyError`` or ``AttributeError`` for other lines.
    """
    entry: dict[str, Any] = json.loads(line)
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in entry.items()}
    for named in ("per_class", "metrics"):
        values[named] = {name: math.nan if value is None else value for name, value in values.get(named, {}).items()}
    if values.setdefault("metric", ACCURACY.name) not in METRICS:
        raise ValueError
    values["participants"] = tuple(values.get("participants", ()))
    if "measured" not in values:
        values |= {"evaluated": len(values["accuracies"]), "measured": "drawn"}
    return IterationRow(**values)


class HistoryFiles:
    """Writes each row to ``history.jsonl`` and ``history.csv`` as it comes: a row is there whole or not at all.

    Metrics are further columns of the table, in the order in which they first came; before them the name of what was
    measured, if that is not the accuracy.
    """

    def __init__(self, folder: Path) -> None:
        self.jsonl = folder / HISTORY
        self.csv = folder / "history.csv"
        self._metrics: list[str] = []
        self._named: list[str] = []

    def begin(self, rows: Iterable[IterationRow] = ()) -> None:
        """Start both files anew with ``rows``; a killed process leaves the old files or the new ones."""
        kept = list(rows)
        write_atomic(self.jsonl, "".join(map(_json_line, kept)))
        self._write_csv(kept)

    def append(self, row: IterationRow) -> None:
        """Add a row to both files."""
        append_to(self.jsonl, _json_line(row))
        named = self._named or row.metric == ACCURACY.name
        if named and row.metrics.keys() <= set(self._metrics):
            append_to(self.csv, csv_text([self._cells(row)]))
        else:
            self._write_csv(History.load(self.jsonl))

    def _write_csv(self, rows: Iterable[IterationRow]) -> None:
        kept = list(rows)
        self._metrics = list(dict.fromkeys(name for row in kept for name in row.metrics))
        self._named = [_METRIC] if any(row.metric != ACCURACY.name for row in kept) else []
        write_atomic(self.csv, csv_text([(*COLUMNS, *self._named, *self._metrics), *map(self._cells, kept)]))

    def _cells(self, row: IterationRow) -> list[object]:
        return [
            *(getattr(row, name) for name in (*COLUMNS, *self._named)),
            *(row.metrics.get(name, "") for name in self._metrics),
        ]


def _json_line(row: IterationRow) -> str:
    entry: dict[str, Any] = _finite({name: getattr(row, name) for name in COLUMNS})
    if row.participants:
        entry["participants"] = list(row.participants)
    entry["accuracies"] = dict(row.accuracies.items())
    for named in ("per_class", "metrics"):
        if found := getattr(row, named):
            entry[named] = _finite(found)
    if row.metric != ACCURACY.name:
        entry[_METRIC] = row.metric
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with None, JSON's null, for numbers that are not finite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def check_metric(metric: Measure, folder: Path) -> None:
    """Raise :class:`OptionError` where the run in ``folder``, which is to go on, was measured by another metric."""
    path = folder / HISTORY
    history = History.load(path) if path.exists() else History()
    if history.evaluated and history.metric != metric:
        raise OptionError(
            f"--metric is {metric.name}, but the run was measured by its {history.metric.name} so far",
            hint=f"use --metric {history.metric.name}, or choose another --work_dir",
        )


def average_words(row: IterationRow, digits: int) -> str:
    """Return AVG with its name; that of a central test set is called accuracy, or what else it is."""
    title = METRICS[row.metric].title
    name = title if row.measured == "central" else "AVG" if row.metric == ACCURACY.name else f"AVG {title}"
    return f"{name} {row.avg:.{digits}f}"


def accuracy_words(row: IterationRow, digits: int) -> str:
    """Return AVG, TOP5 and LOW5, or the accuracy on a central test set, with their names."""
    average = average_words(row, digits)
    if row.measured == "central":
        return average
    return f"{average}  TOP5 {row.top5:.{digits}f}  LOW5 {row.low5:.{digits}f}"


def measured_clients(history: History, *, untested: int = 0) -> str:
    """Return in words what the accuracies in ``history`` are of; ``untested`` clients have no test data."""
    central = [row.test_samples for row in history.evaluated if row.measured == "central"]
    rows = [row for row in history.evaluated if row.measured != "central"]
    if central:
        words = f"the model on the central test set of {counted(central[-1], 'sample')}"
        return f"{words}, or of clients" if rows else words
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
