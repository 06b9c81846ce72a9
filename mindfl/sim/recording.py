"""Callbacks that every training has: they write history, state, models and figure, and call the reporter."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from mindfl.client.uploading import LIKELY_REASON
from mindfl.sim.callbacks import Callback, Model, NamedCallback, Progress, Reporter, states
from mindfl.sim.config import JobConfig
from mindfl.sim.confusion import Confusions
from mindfl.sim.history import History, HistoryFiles, IterationRow
from mindfl.sim.metrics import METRICS
from mindfl.sim.network_model import JobModel
from mindfl.sim.plot import load_matplotlib
from mindfl.sim.result import Result
from mindfl.sim.result_files import ResultFiles
from mindfl.sim.round_loop import Run
from mindfl.sim.run_folder import RunFolder
from mindfl.sim.run_state import RunState
from mindfl.sim.upload_mode import PrivacySpending

#: seconds between two drawings of the accuracy figure during a run
PICTURE_INTERVAL = 10.0
#: names of the callbacks' states, and of what ended the run, among the values of a state
CALLBACKS, STOPPED = "callbacks", "stopped"


class HistoryWriter(Callback):
    """Keeps the rows in ``history``, and in ``history.jsonl`` and ``history.csv``."""

    def __init__(self, files: HistoryFiles, history: History) -> None:
        self._files = files
        self._history = history

    def begin(self, config: JobConfig, model: Model) -> None:
        """Begin the files with the rows of earlier iterations."""
        self._files.begin(self._history)

    def row(self, row: IterationRow, model: Model) -> None:
        """Add a row."""
        self._files.append(row)
        self._history.append(row)


class StateSaver(Callback):
    """Saves the state after each round, so that ``--resume`` continues from it with the same bits.

    ``callbacks`` are the user's, called before. ``model`` is that of the latest row, at first the one given.
    """

    def __init__(
        self,
        folder: RunFolder,
        history: History,
        run: Run,
        callbacks: Sequence[NamedCallback],
        confusions: Confusions,
        model: Model,
    ) -> None:
        self._confusions = confusions
        self.model = model
        self._folder = folder
        self._history = history
        self._run = run
        self._callbacks = callbacks

    def row(self, row: IterationRow, model: Model) -> None:
        """Save the state, once there is a model."""
        self.model = model
        if not self._history.aggregated:
            return
        values = {**self._run.values, **self._confusions.values}
        if kept := states(self._callbacks):
            values[CALLBACKS] = kept
        if stopped := [callback.name for callback in self._callbacks if callback.stops]:
            values[STOPPED] = {"by": ", ".join(stopped), "iterations": self._run.iterations}
        arrays = {**self._run.arrays, **self._confusions.arrays}
        self._folder.save(RunState(row.iteration, model, values, arrays))
        self._run.saved(row.iteration)


class ModelWriter(Callback):
    """Writes the model after each round, for ``--save_every`` and ``--save_best`` too, and all models at the end.

    ``rows`` are those of earlier iterations; ``result`` returns the result with these weights.
    """

    def __init__(
        self,
        files: ResultFiles,
        model: JobModel,
        clients: int,
        rows: Sequence[IterationRow],
        result: Callable[[Model], Result],
    ) -> None:
        self._files = files
        self._model = model
        self._clients = clients
        self._result = result
        self._latest = rows[-1] if rows else None
        # The latest row is written again, see begin().
        best = History(rows[:-1]).best
        self._best = math.nan if best is None else best.avg

    def begin(self, config: JobConfig, model: Model) -> None:
        """Write the models of the latest state: the process may have been killed before it did."""
        self._config = config
        if self._latest is not None:
            self.row(self._latest, model)

    def row(self, row: IterationRow, model: Model) -> None:
        """Write the model, once there is one, so that a killed run leaves it too."""
        result = self._result(model)
        if not model or not result.history.aggregated:
            return
        content = self._files.keep(self._model, result, self._clients)
        if self._config.save_every is not None and row.iteration % self._config.save_every == 0:
            self._files.write_checkpoint(content, row.iteration)
        if self._config.save_best and METRICS[row.metric].better(row.avg, self._best):
            self._best = row.avg
            self._files.write_best(content, row.iteration, row.avg)

    def end(self, result: Result) -> None:
        """Write summary and models."""
        self._files.write(self._model, result, self._clients)


class CardWriter(Callback):
    """Writes the result card and the confusion matrices at the end; before that there are none."""

    def __init__(self, files: ResultFiles) -> None:
        self._files = files

    def begin(self, config: JobConfig, model: Model) -> None:
        """Remove those of a run that goes on."""
        self._per_class = config.per_class
        self._files.remove_cards()

    def end(self, result: Result) -> None:
        """Write them."""
        self._files.write_card(result, picture=self._per_class)


class FigureDrawer(Callback):
    """Draws the accuracy figure, also during the run: it can be watched, and Ctrl-C need not wait for matplotlib."""

    def __init__(self, files: ResultFiles, result: Callable[[Model], Result]) -> None:
        self._files = files
        self._result = result
        self._drawn = time.monotonic()
        self._loaded = False

    def upload(self, progress: Progress) -> None:
        """Load matplotlib after the first upload, while other clients train, so that training begins earlier."""
        if not self._loaded:
            self._loaded = True
            load_matplotlib()

    def row(self, row: IterationRow, model: Model) -> None:
        """Draw, if the last drawing is long ago."""
        if time.monotonic() - self._drawn >= PICTURE_INTERVAL:
            self._result(model).plot(self._files.picture)
            self._drawn = time.monotonic()

    def end(self, result: Result) -> None:
        """Draw the finished iterations."""
        if len(result.history):
            result.plot(self._files.picture)


class ReporterCaller(Callback):
    """Tells the job's reporter, such as the progress bar, and warns of failed iterations and of the privacy budget."""

    def __init__(self, report: Reporter, spending: PrivacySpending) -> None:
        self._report = report
        self._spending = spending
        self._failure_told = False

    def upload(self, progress: Progress) -> None:
        """Tell it."""
        self._report.progress(progress)

    def row(self, row: IterationRow, model: Model) -> None:
        """Tell it, with warnings."""
        self._report.row(row)
        if not row.aggregated and not self._failure_told:
            self._failure_told = True
            self._report.warning(
                f"iteration {row.iteration} failed: its model is the one that it began with; {LIKELY_REASON}"
            )
        if warning := self._spending.warning(row.iteration):
            self._report.warning(warning)
