"""The benchmark's table beside the published values, as CSV and as Markdown, and its figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from mindfl.experiments import niid_published as setting
from mindfl.experiments import runner
from mindfl.experiments.niid_published import PublishedAccuracy, published
from mindfl.files import write_atomic
from mindfl.options.command_options import NiidDataName
from mindfl.sim.plot import curve_style, draw_figure, wrapped
from mindfl.sim.tables import csv_text, markdown_table
from mindfl.spelling import counted

FILES = ("niid_bench.png", "niid_bench.csv", "niid_bench.md")


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One job: ``curve`` is the accuracy (0..1) on the whole test set after each round, ``seconds`` the wall time of
    all rounds, ``weights_sha256`` as in :func:`~mindfl.sim.weight_hash`."""

    cell: str
    algorithm: str
    seed: int
    curve: tuple[float, ...]
    seconds: float
    weights_sha256: str

    @property
    def best(self) -> float:
        """The best accuracy over the rounds, in percent."""
        return 100 * max(self.curve)

    @property
    def best_round(self) -> int:
        """The first round with the best accuracy."""
        return self.curve.index(max(self.curve)) + 1


class CellRow(NamedTuple):
    """A line of the table: the jobs of a cell and an algorithm, over their seeds. Accuracies in percent."""

    cell: str
    algorithm: str
    results: Sequence[CellResult]
    published: PublishedAccuracy | None

    @property
    def mean(self) -> float:
        """Mean over seeds of the best accuracy."""
        return fmean(one.best for one in self.results)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN of one."""
        return stdev(one.best for one in self.results) if len(self.results) > 1 else math.nan


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The results of the jobs that ended, and ``missing``, the names of those that did not; why others ``failed``.

    ``data`` names the data set, None: one without a published table; ``train`` and ``test`` are its samples.
    """

    data: NiidDataName | None
    train: int
    test: int
    rounds: int
    epochs: int
    machine: str
    results: Sequence[CellResult]
    missing: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> tuple[str, ...]:
        """What differs from the published setting, in words."""
        there = setting.EXPERIMENT
        pairs = ((self.rounds, there["iterations"], "round"), (self.epochs, there["epochs"], "epoch"))
        return tuple(f"{counted(now, what)} instead of {then}" for now, then, what in pairs if now != then)

    @property
    def title(self) -> str:
        """A line for figure and terminal."""
        changed = f"; NOT the published setting: {', '.join(self.changes)}" if self.changes else ""
        return f"niid_bench, {setting.TITLES[self.data]}: best accuracy over {counted(self.rounds, 'round')}{changed}"

    def lines(self) -> Iterator[CellRow]:
        """Yield the lines of the table: cells in their order, algorithms in the order in which they ran."""
        for cell in setting.CELLS:
            for algorithm in dict.fromkeys(one.algorithm for one in self.results):
                found = [one for one in self.results if (one.cell, one.algorithm) == (cell, algorithm)]
                if found:
                    yield CellRow(cell, algorithm, found, published(self.data, cell, algorithm))

    def difference(self, line: CellRow) -> float:
        """Return by how many points a line is above the published mean; NaN where they cannot be compared."""
        return math.nan if line.published is None or self.changes else line.mean - line.published.mean


def write_bench(bench: Bench, folder: Path) -> None:
    """Write :data:`FILES` into ``folder``. Raises :class:`StorageError`."""
    write_atomic(folder / "niid_bench.csv", table_csv(bench))
    write_atomic(folder / "niid_bench.md", markdown(bench))
    plot_bench(bench, folder / "niid_bench.png")


_COLUMNS = (
    *("data", "cell", "algorithm", "seed", "best", "best_round", "last", "rounds", "epochs"),
    *("published_mean", "published_spread", "difference", "seconds", "weights_sha256"),
)


def table_csv(bench: Bench) -> str:
    """Return one line per job, numbers unrounded: accuracies in percent."""
    rows: list[Sequence[object]] = [_COLUMNS]
    for line in bench.lines():
        theirs = line.published or (math.nan, math.nan)
        for one in line.results:
            difference = one.best - theirs[0] if not bench.changes else math.nan
            own = [bench.data or "", one.cell, one.algorithm, one.seed, one.best, one.best_round, 100 * one.curve[-1]]
            others = [*theirs, difference, one.seconds, one.weights_sha256]
            rows.append([*own, bench.rounds, bench.epochs, *others])
    return csv_text(rows)


def table(bench: Bench) -> list[str]:
    """Return the lines of the Markdown table."""
    header = ["samples", "algorithm", "mindfl", "in round", "published", "difference"]
    rows = []
    for line in bench.lines():
        difference = bench.difference(line)
        rows.append(
            [
                line.cell,
                line.algorithm,
                _spread(line.mean, line.spread),
                ", ".join(str(one.best_round) for one in line.results),
                "-" if line.published is None else _spread(*line.published),
                "-" if math.isnan(difference) else f"{difference:+.2f}",
            ]
        )
    return markdown_table(header, rows, range(2, len(header)))


def _spread(mean: float, spread: float) -> str:
    return f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} +- {spread:.2f}"


def markdown(bench: Bench) -> str:
    """Return the report: what ran, the table, and what differs from the published program."""
    compared = f"published: {setting.SOURCE}"
    if bench.changes:
        compared += f". NOT COMPARED: this is not the published setting, but {', '.join(bench.changes)}"
    there = setting.EXPERIMENT
    facts = [
        f"data: {setting.TITLES[bench.data]}, {bench.train:,} training and {bench.test:,} test samples",
        f"setting: LeNet, {there['client_num']} clients, all in each round, {counted(bench.rounds, 'round')}, "
        f"{counted(bench.epochs, 'local epoch')}, batch {there['batch_size']}, learning rate "
        f"{there['learning_rate']:g}, momentum {there['momentum']:g}, weight decay {there['weight_decay']:g}",
        "accuracy: percent of the whole test set, the best over the rounds; mean and spread over seeds",
        compared,
        "differences from the published setting: the last batch of an epoch is filled with the epoch's first samples; "
        "convolutions have no bias; initial weights are drawn otherwise; FedProx has "
        f"{setting.FEDPROX.partition(':')[2]} if none is given (there the best of .001, .01, .1 and 1)",
        f"machine: {bench.machine}; all jobs took {sum(one.seconds for one in bench.results) / 60:.0f} minutes",
    ]
    if bench.missing:
        facts.append(f"not there yet: {', '.join(bench.missing)}; the same command goes on with them")
    facts += [f"failed: {name}: {reason}" for name, reason in bench.failed.items()]
    return runner.markdown("Benchmark of label skew", facts, *table(bench))


def summary(bench: Bench) -> str:
    """Return title and table for the terminal."""
    lines = [bench.title, *table(bench)]
    if bench.missing:
        lines.append(f"not there yet: {', '.join(bench.missing)}")
    lines += [f"failed: {name}: {reason}" for name, reason in bench.failed.items()]
    return "\n".join(lines)


_TITLE_WIDTH = 110


def plot_bench(bench: Bench, path: Path) -> None:
    """Draw a panel per cell: accuracy over the rounds, and the published best as a band."""
    lines = list(bench.lines())
    cells = list(dict.fromkeys(line.cell for line in lines))
    algorithms = list(dict.fromkeys(line.algorithm for line in lines))

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, max(1, len(cells)), squeeze=False)[0]
        for axes, cell in zip(panels, cells, strict=False):
            for line in lines:
                if line.cell == cell:
                    _draw_line(axes, line, algorithms.index(line.algorithm))
            axes.set(title=cell, xlabel="round")
            axes.grid(alpha=0.3)
            axes.legend(loc="lower right", fontsize="small")
        panels[0].set_ylabel("accuracy on the whole test set, %")
        figure.suptitle(wrapped(f"{bench.title}\nbands: published best, mean and spread", _TITLE_WIDTH))

    draw_figure(path, draw, size=(max(6.4, 4.5 * len(cells)), 5), dpi=110)


def _draw_line(axes: Any, line: CellRow, place: int) -> None:
    style = curve_style(place, len(line.results[0].curve))
    for number, one in enumerate(line.results):
        label = f"{line.algorithm}  {line.mean:.2f}" if number == 0 else None
        axes.plot(range(1, len(one.curve) + 1), [100 * value for value in one.curve], label=label, **style)
    if line.published is not None:
        mean, spread = line.published
        axes.axhspan(mean - spread, mean + spread, color=style["color"], alpha=0.12, linewidth=0)
        axes.axhline(mean, color=style["color"], linestyle=":", linewidth=1)
