"""The tutorial's experiment: run with its setting, and compared with the curve that the tutorial publishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

from mindfl.errors import OptionError
from mindfl.experiments.runner import (
    data_words,
    markdown,
    remove_reports,
    setting_words,
    shipped_experiment,
    with_defaults,
    written_up,
)
from mindfl.files import write_atomic
from mindfl.sim.callbacks import Reporter, Silent
from mindfl.sim.config import JobConfig
from mindfl.sim.evaluation import Accuracy
from mindfl.sim.history import History, measured_clients, measured_iterations
from mindfl.sim.job import FederatedLeNetJob
from mindfl.sim.model_options import own_model
from mindfl.sim.plot import CURVES, PALETTE, plot_history
from mindfl.sim.result import Result
from mindfl.sim.run_folder import locked
from mindfl.sim.tables import csv_text, decimals, markdown_table
from mindfl.spelling import counted, did_you_mean
from mindfl.work_files import HISTORY


@dataclass(frozen=True, kw_only=True)
class Published:
    """An experiment and its curve. Accuracies are 0..1, each of the aggregated model on the clients' test data.

    Attributes:
        setting: the options of the experiment file.
        servers: number of servers.
        momentum: of MindSpore Federated 0.1.0's LeNet client, whose optimizer is Momentum.
        avg_at: mean accuracy of all clients at some iterations.
        window: number of last iterations that ``last`` is the mean of.
        plateau: iterations at the start during which the model stays at chance.
    """

    setting: Mapping[str, Any]
    servers: int
    momentum: float
    avg_at: Mapping[int, float]
    window: int
    last: Accuracy
    plateau: int

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return int(self.setting["iterations"])

    @property
    def last_iterations(self) -> range:
        """The iterations that ``last`` is the mean of."""
        return range(self.iterations - self.window + 1, self.iterations + 1)

    def draw(self, axes: Any, iterations: int) -> None:
        """Draw the part of the curve that lies within so many ``iterations``."""
        points = [(iteration, value) for iteration, value in self.avg_at.items() if iteration <= iterations]
        if points:
            style = {"linestyle": "none", "markersize": 9, "markeredgecolor": "black", "zorder": 3}
            axes.plot(*zip(*points, strict=True), marker="D", color=PALETTE[0], label="published AVG", **style)
        if iterations >= self.iterations:
            first, *_, last = self.last_iterations
            for name, label, place in CURVES:
                value = getattr(self.last, name)
                label = f"published {label}, mean of {first} to {last}  {value:.3f}"
                axes.hlines(value, first, last, color=PALETTE[place], linewidth=5, alpha=0.5, label=label)
        label = f"published: at chance until {self.plateau}"
        axes.axvspan(1, min(self.plateau, iterations), color="grey", alpha=0.15, linewidth=0, label=label)


#: the tutorial's section 5 and its figure; the values of the curves are read off that figure
FEMNIST50 = Published(
    setting=shipped_experiment("femnist50"),
    servers=16,
    momentum=0.9,
    avg_at=MappingProxyType({20: 0.551, 50: 0.672, 80: 0.701}),
    window=10,
    last=Accuracy(avg=0.726, top5=0.927, low5=0.485),
    plateau=10,
)
#: name -> experiment
EXPERIMENTS = {"femnist50": FEMNIST50}

FILES = ("experiment.png", "experiment.csv", "experiment.md")
_DEFAULT_DIR = "mindfl_experiment"


class Comparison(NamedTuple):
    """A published accuracy beside the run's, both 0..1."""

    quantity: str
    published: float
    measured: float

    @property
    def difference(self) -> float:
        """How much higher the run is."""
        return self.measured - self.published


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A finished run, or the part of it that ended.

    ``data`` says which handwriting was used. ``changes`` names the differences from the tutorial, other than the
    number of iterations: if there are any, the accuracies are not compared. ``result`` is None for a run cut short.
    """

    name: str
    published: Published
    config: JobConfig
    history: History
    data: str
    changes: tuple[str, ...]
    result: Result | None = None

    @property
    def title(self) -> str:
        """Experiment, setting and data, in two lines; in three where the setting was changed."""
        done, planned = len(self.history), self.published.iterations
        changes = self.changes if done == planned else (*self.changes, _change("iterations", done, planned))
        lines = [f"{self.name}: {self._setting}", f"data: {self.data}"]
        return "\n".join([*lines, f"not as in the tutorial: {', '.join(changes)}"] if changes else lines)

    @property
    def comparisons(self) -> list[Comparison]:
        """The published accuracies that the run has too; none where the setting is another."""
        return [] if self.changes else list(_comparisons(self.published, self.history))

    def summary(self) -> str:
        """Return a few lines for the terminal: what ran, on which data, and the comparison."""
        lines = [self.title]
        if self.comparisons:
            lines.append(f"{'':30} published  this run  difference")
            lines += [
                f"{quantity:30} {there:9.3f} {here:9.3f} {here - there:+11.3f}"
                for quantity, there, here in self.comparisons
            ]
        else:
            lines.append(f"nothing to compare with the published curve; {self._final}")
        lines.append(self._measured)
        if self.result is not None:
            lines.append(f"weights sha256 {self.result.hash}")
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the report ``experiment.md``."""
        table = [
            [each.quantity, f"{each.published:.3f}", f"{each.measured:.3f}", f"{each.difference:+.3f}"]
            for each in self.comparisons
        ]
        lines = ["", *markdown_table(["", "published", "this run", "difference"], table)] if table else []
        return markdown(self.name, list(self._facts()), f"{self._final}.", *lines)

    def write(self, folder: Path) -> None:
        """Write figure, table and report into ``folder``. Raises :class:`StorageError`."""
        rows = [
            [each.quantity, each.published, decimals(each.measured), decimals(each.difference)]
            for each in self.comparisons
        ]
        write_atomic(folder / "experiment.csv", csv_text([(*Comparison._fields, "difference"), *rows]))
        write_atomic(folder / "experiment.md", self.markdown())
        beside = None if self.changes else self.published.draw
        plot_history(self.history, folder / "experiment.png", title=self.title, beside=beside)

    def _facts(self) -> Iterator[str]:
        config, published, there = self.config, self.published, self.published.setting
        yield f"data: {self.data}"
        yield f"setting: {self._setting}, {config.network.optimizer}, learning rate {config.rate:g}, seed {config.seed}"
        if self.changes:
            yield f"not as in the tutorial: {', '.join(self.changes)}; so only this run is shown"
        yield (
            f"{_initial_weights(config)}; the published curve stays at chance for its first {published.plateau} "
            "iterations, as with `--init truncated_normal`"
        )
        yield (
            f"published: {counted(there['client_num'], 'client')}, {counted(published.servers, 'server')}, "
            f"{counted(published.iterations, 'iteration')}, {counted(there['epochs'], 'epoch')}, "
            f"batch {there['batch_size']}, FEMNIST; read off the tutorial's figure. "
            "Which of its 3,500 writers these were is not known: a difference comes from the writers too"
        )
        if config.server_side.reference:
            yield f"servers: {config.server_num} of MindSpore Federated"
        else:
            yield f"servers: one, embedded, for the published {published.servers}: it adds uploads exactly, as one sum"
        yield f"{sum(self.history.column('steps')):,} training steps in {sum(self.history.column('seconds')):,.0f} s"
        yield self._measured
        if self.result is not None:
            yield f"weights sha256 `{self.result.hash}`"

    @property
    def _setting(self) -> str:
        size = setting_words(self.config, _clients(self.history), len(self.history))
        return f"{size}, {_initial_weights(self.config)}"

    @property
    def _measured(self) -> str:
        return f"accuracy of {measured_clients(self.history)}, after {measured_iterations(self.history)}"

    @property
    def _final(self) -> str:
        done = len(self.history)
        count = min(self.published.window, done)
        mean = _mean(self.history, range(done - count + 1, done + 1))
        values = ", ".join(f"{field.upper()} {value:.3f}" for field, value in mean._asdict().items())
        return f"mean of its last {counted(count, 'iteration')}: {values}"


def run_experiment(name: str = "femnist50", *, reporter: Reporter | None = None, **settings: Any) -> Experiment:
    """Run an experiment of the tutorial, and write ``experiment.png``, ``experiment.csv`` and ``experiment.md``.

    ``settings`` are those of :class:`~mindfl.sim.FederatedLeNetJob`, whose own files are written too; missing ones,
    and None, have the experiment's values. Raises :class:`OptionError` for an unknown name, and the errors of the job;
    the finished iterations are written up.
    """
    if name not in EXPERIMENTS:
        raise OptionError(f"unknown experiment {name!r}", hint=did_you_mean(name, EXPERIMENTS))
    published = EXPERIMENTS[name]
    servers = {"server_num": published.servers} if settings.get("stack") == "federated" else {}
    settings = with_defaults({"work_dir": _DEFAULT_DIR, **servers, **published.setting}, settings)
    job = FederatedLeNetJob(reporter=reporter, **settings)
    folder = job.config.work_dir
    with locked(folder):
        job.check_work_dir()
        remove_reports(folder, FILES)

    @cache
    def experiment() -> Experiment:
        history = History.load(folder / HISTORY) if job.result is None else job.result.history
        dataset = FederatedLeNetJob(reporter=Silent(), **settings).prepare_data()
        return Experiment(
            name=name,
            published=published,
            config=job.config,
            history=history,
            data=data_words(dataset, _clients(history)),
            changes=tuple(_changes(published, job.config, _clients(history))),
            result=job.result,
        )

    with written_up(lambda: experiment().write(folder)):
        job.run()
    return experiment()


def _changes(published: Published, config: JobConfig, clients: int) -> Iterator[str]:
    """Yield where the setting differs from the published one, apart from what does not change the curve."""
    there = published.setting
    pairs = (
        ("clients", clients, there["client_num"]),
        ("clients an iteration", "all" if config.cohort == config.client_num else config.cohort, "all"),
        ("epochs", config.epochs, there["epochs"]),
        ("batch", config.network.batch_size, there["batch_size"]),
        ("optimizer", config.network.optimizer, "momentum"),
        ("learning rate", config.rate, there["learning_rate"]),
        ("momentum", config.network.momentum, published.momentum),
        ("model", config.model and config.network_name, "lenet"),
    )
    return (_change(name, own, theirs) for name, own, theirs in pairs if own != theirs)


def _initial_weights(config: JobConfig) -> str:
    return f"init {config.network.init}" if own_model(config) is None else "initial weights of the model file"


def _change(name: str, own: object, theirs: object) -> str:
    return f"{name} {own} (there {theirs})"


def _comparisons(published: Published, history: History) -> Iterator[Comparison]:
    for iteration, accuracy in published.avg_at.items():
        if iteration in {row.iteration for row in history.evaluated}:
            yield Comparison(f"AVG at iteration {iteration}", accuracy, history[iteration - 1].avg)
    if len(history) >= published.iterations:
        last = published.last_iterations
        mean = _mean(history, last)
        for field in Accuracy._fields:
            quantity = f"{field.upper()}, mean of {last[0]} to {last[-1]}"
            yield Comparison(quantity, getattr(published.last, field), getattr(mean, field))


def _mean(history: History, iterations: range) -> Accuracy:
    """Return the mean of those of ``iterations`` that were evaluated; NaN where none was."""
    rows = [row for row in history.evaluated if row.iteration in iterations]
    if not rows:
        return Accuracy.of(())
    return Accuracy(*(fmean(getattr(row, field) for row in rows) for field in Accuracy._fields))


def _clients(history: History) -> int:
    return int(history[-1].clients)
