"""Figures of groups of runs: curves with bands over seeds or clients, and the accuracies of all clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.naming import federates
from mindfl.compare.compared_runs import ComparedRun, RunSource, find_runs
from mindfl.compare.run_groups import RunGroup, grouped, metrics_of
from mindfl.errors import OptionError
from mindfl.files import PathLike
from mindfl.notices import warn
from mindfl.options import declared_arguments
from mindfl.options.command_options import BandName, FigureKind, PlotOptions, XAxisName
from mindfl.sim.fonts import fit_fonts
from mindfl.sim.history import COLUMNS, History, IterationRow
from mindfl.sim.metrics import ACCURACY
from mindfl.sim.plot import Style, check_target, curve_style, draw_figure, styled, wrapped
from mindfl.spelling import counted, did_you_mean

#: shares of the clients between which the band of clients lies
_CLIENTS = (10, 90)
_X_LABELS: dict[XAxisName, str] = {"rounds": "round", "seconds": "time, s", "bytes": "traffic, MB"}
_MEGABYTE = 1e6
#: letters in a line of the legend
_LABEL_WIDTH = 72
_BYTES = ("bytes_down", "bytes_up")
#: columns of a history that are texts or truth values, or that the axis shows
_NO_CURVE = ("iteration", "measured", "aggregated")
_LABELS = {
    "loss": "training loss",
    "seconds": "seconds of a round",
    "bytes_down": "bytes down of a round",
    "bytes_up": "bytes up of a round",
    "steps_per_s": "steps per second",
    "learning_rate": "learning rate",
    "epsilon": "epsilon",
}
_KINDS_OF_AVG = {"avg": "mean of the clients", "top5": "mean of the best 5", "low5": "mean of the worst 5"}


@dataclass(frozen=True)
class GroupCurve:
    """A group in the figure: ``x``, ``y`` and perhaps the lower and upper edge of a band, each of the same length."""

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None


@declared_arguments(PlotOptions)
def plot_runs(
    runs: Iterable[RunSource],
    path: PathLike | None = None,
    *,
    column: str = "avg",
    x: XAxisName = "rounds",
    band: BandName = "sd",
    kind: FigureKind = "curves",
    title: str = "",
    ax: Any = None,
    style: Style = None,
) -> Any:
    """Draw groups of runs: curves with bands, or each client's accuracy after the last evaluation.

    Groups are those of :func:`compare_runs`. A curve is the mean over the seeds, at the rounds that all of them have;
    a warning says where some do not.

    Args:
        runs: work folders of runs, folders of sweeps, or results; ``"name=folder"`` gives a run a label.
        path: file to write; its suffix names the format. None: draw into ``ax`` only.
        column: column of the history: ``"avg"``, ``"top5"``, ``"low5"``, ``"loss"``, another number, or a metric of a
            callback.
        x: ``"rounds"``, ``"seconds"`` (sum over the rounds) or ``"bytes"`` (down and up, sum).
        band: ``"sd"`` (mean and standard deviation over seeds), ``"range"`` (lowest and highest seed), ``"clients"``
            (10 to 90 % of the clients) or ``"none"``.
        kind: ``"curves"`` or ``"clients"``.
        title: above the figure.
        ax: axes of matplotlib to draw into.
        style: style sheet of matplotlib, or its settings (rcParams) by name.

    Returns:
        ``ax``.

    Raises:
        OptionError: there is no such run, column or format, or neither ``path`` nor ``ax`` is given.
        StorageError: the file cannot be written.

    Example:
        >>> plot_runs(["run"], "curves.svg", column="loss")
    """
    check_target(path, ax)
    groups = grouped(find_runs(runs))
    if kind == "curves" and (x == "bytes" or column in _BYTES):
        groups = _federated(groups)
    metrics = metrics_of(groups)
    if len(metrics) > 1 and (kind == "clients" or column in _KINDS_OF_AVG):
        measured = " and ".join(metric.title for metric in metrics)
        raise OptionError(f"the runs were measured by {measured}: no axis is for both", hint="draw them apart")
    draw = _clients_drawing(groups) if kind == "clients" else _curves_drawing(groups, column, x, band)
    with styled(style):
        if ax is not None:
            draw(ax)
            if title:
                ax.set_title(title, parse_math=False)
            if kind == "curves":
                ax.legend()
            fit_fonts(ax)
            return ax

        def whole(figure: Any) -> None:
            axes = figure.add_subplot()
            draw(axes)
            if title:
                axes.set_title(wrapped(title, 70), parse_math=False)
            if kind == "curves":
                longest = min(max(len(group.label) for group in groups), _LABEL_WIDTH)
                lines = -(-len(groups) // max(1, 80 // (longest + 8)))
                figure.legend(loc="outside lower center", ncols=-(-len(groups) // lines), frameon=False)

        assert path is not None
        draw_figure(path, whole, size=(6.4, 4.4), dpi=200)
    return None


def _federated(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Return the groups whose models devices would send; the others, which have no traffic, are named in a warning."""
    kept = [group for group in groups if federates(str(group.runs[0].result.settings.get("algorithm")))]
    if left_out := [group.label for group in groups if group not in kept]:
        if not kept:
            raise OptionError(f"{', '.join(left_out)}: nothing would be sent", hint="draw over rounds or seconds")
        warn(f"not drawn, as nothing would be sent: {', '.join(left_out)}")
    return kept


def group_curve(group: RunGroup, column: str, x: XAxisName = "rounds", band: BandName = "sd") -> GroupCurve:
    """Return the curve of a group, at the rounds that all of its runs have a value of.

    Raises :class:`OptionError` where there is none, or a time is not known.
    """
    values = [_values(run, column) for run in group.runs]
    rounds = sorted(set.intersection(*(set(each) for each in values)))
    if not rounds:
        raise OptionError(
            f"{group.label}: there is no round of which all runs have {column}",
            hint="draw another --column, or leave the runs out",
        )
    known = set().union(*values)
    if len(known) > len(rounds):
        warn(
            f"{group.label}: drawn at the {len(rounds)} of {counted(len(known), 'round')} of which all "
            f"{len(values)} runs have {column}"
        )
    table = np.array([[each[number] for number in rounds] for each in values])
    places = np.mean([_places(run, x, rounds) for run in group.runs], axis=0)
    return GroupCurve(group.label, places, table.mean(axis=0), _band(group, band, table, rounds))


def _band(
    group: RunGroup, band: BandName, table: NDArray[np.float64], rounds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if band == "clients":
        accuracies = [
            {row.iteration: list(row.accuracies.values()) for row in run.result.history} for run in group.runs
        ]
        pooled = [[value for run in accuracies for value in run[number]] for number in rounds]
        if not all(pooled):
            raise OptionError(
                f"{group.label}: the accuracies of single clients are not known", hint="use another --band"
            )
        low, high = (np.array([np.percentile(each, share) for each in pooled]) for share in _CLIENTS)
        return low, high
    if band == "none" or len(table) == 1:
        return None
    if band == "range":
        return table.min(axis=0), table.max(axis=0)
    deviation = table.std(axis=0, ddof=1)
    return table.mean(axis=0) - deviation, table.mean(axis=0) + deviation


def _values(run: ComparedRun, column: str) -> dict[int, float]:
    """Return the known numbers of a column by round."""
    history = run.result.history
    own = {name for row in history for name in row.metrics}
    numbers = [name for name in COLUMNS if name not in _NO_CURVE]
    if column not in own and column not in numbers:
        raise OptionError(f"--column: no run has {column!r}", hint=did_you_mean(column, [*numbers, *sorted(own)]))
    pairs = zip(history, history.column(column), strict=True)
    return {row.iteration: value for row, value in pairs if math.isfinite(value)}


def _places(run: ComparedRun, x: XAxisName, rounds: Sequence[int]) -> list[float]:
    if x == "rounds":
        return list(map(float, rounds))
    history = run.result.history
    each: Callable[[IterationRow], float] = (
        (lambda row: row.seconds) if x == "seconds" else (lambda row: (row.bytes_down + row.bytes_up) / _MEGABYTE)
    )
    sums = dict(zip(history.column("iteration"), accumulate(map(each, history)), strict=True))
    places = [sums[number] for number in rounds]
    if not all(map(math.isfinite, places)):
        raise OptionError(f"{run.name}: the seconds of its rounds are not known", hint="use --x rounds")
    return places


def _curves_drawing(groups: Sequence[RunGroup], column: str, x: XAxisName, band: BandName) -> Callable[[Any], None]:
    curves = [group_curve(group, column, x, band) for group in groups]

    def draw(axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        for place, curve in enumerate(curves):
            style = curve_style(place, len(curve.x))
            if curve.band is not None:
                axes.fill_between(curve.x, *curve.band, color=style["color"], alpha=0.15, linewidth=0)
            axes.plot(curve.x, curve.y, label=wrapped(_plain(curve.label), _LABEL_WIDTH), **style)
        axes.set(xlabel=_X_LABELS[x], ylabel=_label(column, groups))
        if x == "rounds":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.02)
        axes.grid(alpha=0.3, linewidth=0.6)

    return draw


def _plain(label: str) -> str:
    """Return a label of which matplotlib makes no mathematics, and that it does not leave out of a legend."""
    text = label.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _label(column: str, groups: Sequence[RunGroup]) -> str:
    history = groups[0].runs[0].result.history
    if column not in _KINDS_OF_AVG:
        return _LABELS.get(column, column.replace("_", " "))
    rows = history.evaluated
    if rows and rows[-1].measured == "central":
        return f"{history.metric.title} on the central test set"
    return f"{history.metric.title}, {_KINDS_OF_AVG[column]}"


def last_accuracies(group: RunGroup) -> NDArray[np.float64]:
    """Return each client's accuracy after the last evaluation, ascending: its mean over the runs that evaluated it."""
    found: dict[str, list[float]] = {}
    for run in group.runs:
        for name, value in _last(run.result.history).items():
            found.setdefault(name, []).append(value)
    return np.sort([fmean(values) for values in found.values()])


def _last(history: History) -> Mapping[str, float]:
    return history.evaluated[-1].accuracies if history.evaluated else {}


def _clients_drawing(groups: Sequence[RunGroup]) -> Callable[[Any], None]:
    clients = [last_accuracies(group) for group in groups]
    for group, values in zip(groups, clients, strict=True):
        if not len(values):
            raise OptionError(f"{group.label}: the accuracies of single clients are not known", hint="draw curves")

    def draw(axes: Any) -> None:
        for place, values in enumerate(clients):
            style = curve_style(place, 1)
            # Golden ratio: neighbours of similar accuracy lie apart, and the figure is the same each time.
            aside = ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * 0.5
            size = max(4.0, min(22.0, 3000 / len(values)))
            axes.scatter(
                place + aside, values, s=size, color=style["color"], marker=style["marker"], alpha=0.5, linewidths=0
            )
            low, middle, high = np.percentile(values, (_CLIENTS[0], 50, _CLIENTS[1]))
            axes.plot([place + 0.36] * 2, [low, high], color="black", linewidth=1.2)
            axes.plot([place + 0.36], [middle], color="black", marker="_", markersize=9, markeredgewidth=1.8)
        names = [wrapped(_plain(group.label).replace(", ", ",\n"), 22) for group in groups]
        axes.set_xticks(range(len(groups)), names)
        axes.set_xlim(-0.5, len(groups) - 0.4)
        metric = groups[0].runs[0].result.history.metric
        axes.set_ylabel(f"{metric.title} of each client; bars: 10 to 90 %, median")
        if metric == ACCURACY:
            axes.set_ylim(top=1.01)
        axes.grid(alpha=0.3, linewidth=0.6, axis="y")

    return draw
