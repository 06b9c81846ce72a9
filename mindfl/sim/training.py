"""One training from its first row to its last file: history, state, models, picture and summary."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace

from mindfl.client.comparison import LIKELY_REASON
from mindfl.sim.config import JobConfig
from mindfl.sim.history import History, HistoryFiles, IterationRow
from mindfl.sim.outcome import ResultFiles
from mindfl.sim.plot import load_matplotlib
from mindfl.sim.privacy import Spending
from mindfl.sim.reporter import Reporter
from mindfl.sim.result import TrainingResult
from mindfl.sim.run_folder import Beginning, RunFolder
from mindfl.sim.run_state import RunState
from mindfl.sim.stacks import Materials, Run
from mindfl.words import counted

#: seconds between two drawings of the accuracy figure during a run
PICTURE_INTERVAL = 10.0


class Training:
    """Follows a run and writes what it leaves into the work folder.

    ``start(materials, iterations)`` returns the run. ``beginning`` says with which iteration it begins.
    """

    def __init__(
        self,
        config: JobConfig,
        materials: Materials,
        beginning: Beginning,
        folder: RunFolder,
        files: ResultFiles,
        report: Reporter,
        title: str,
    ) -> None:
        self._config = config
        self._materials = replace(materials, start=beginning.state)
        self._beginning = beginning
        self._folder = folder
        self._files = files
        self._report = report
        self._title = title
        self._rows = HistoryFiles(config.work_dir)
        self._history = History(beginning.rows)
        self._spending = Spending(config, len(materials.users))
        self._drawn = time.monotonic()
        self._failure_told = False
        # The latest row is kept again, see run().
        self._best = max((row.avg for row in beginning.rows[:-1] if not math.isnan(row.avg)), default=-math.inf)

    def run(self, start: Callable[[Materials, int], Run]) -> TrainingResult:
        """Train to the end, and write up what was finished, however the run ends.

        Raises :class:`NotAggregatedError` where every iteration failed at the server.
        """
        load_matplotlib()  # so that Ctrl-C in the first iteration need not wait for it
        self._rows.begin(self._history)
        for note in self._spending.notes():
            self._report.warning(note)
        state = self._materials.start
        if state is not None:  # the process may have been killed before it wrote the models of this state
            self._keep_models(self._result(self._spending.iterations, state), self._beginning.rows[-1])
        if state is not None and state.iteration >= self._spending.iterations:
            self._report.stage(f"all {state.iteration} iterations are done already")
            return self._write_up(self._result(self._spending.iterations, state))
        run = start(self._materials, self._spending.iterations)
        self._report.stage(self._announcement())
        try:
            self._follow(run)
        except BaseException:
            # Whatever ended the run, the iterations that did end are written up; the cause is what the user must see.
            with suppress(Exception):
                self._write_up(self._result(run.iterations, run))
            raise
        result = self._write_up(self._result(run.iterations, run))
        result.check(hint=LIKELY_REASON)
        return result

    def _announcement(self) -> str:
        text = f"training {counted(len(self._materials.users), 'client')}"
        done = len(self._beginning.rows)
        return f"{text}, from iteration {done + 1} on" if done else text

    def _follow(self, run: Run) -> None:
        with closing(run.rows()) as rows:
            for row in map(self._spending.counted, rows):
                self._rows.append(row)
                self._history.append(row)
                self._keep(run, row)
                self._report.row(row)
                self._warn_of_failure(row)
                if warning := self._spending.warning(row.iteration):
                    self._report.warning(warning)
                self._draw(run)

    def _keep(self, run: Run, row: IterationRow) -> None:
        """Keep the state and the models of the iteration that ended, so that a killed run loses none."""
        if not run.stepwise or not self._history.aggregated:
            return
        if run.resumable:
            self._folder.save(RunState(row.iteration, run.model, run.values, run.arrays))
        self._keep_models(self._result(run.iterations, run), row)

    def _keep_models(self, result: TrainingResult, row: IterationRow) -> None:
        content = self._files.keep(self._materials.model, result, len(self._materials.users))
        if self._config.save_every is not None and row.iteration % self._config.save_every == 0:
            self._files.write_checkpoint(content, row.iteration)
        if self._config.save_best and row.avg > self._best:
            self._best = row.avg
            self._files.write_best(content, row.iteration, row.avg)

    def _warn_of_failure(self, row: IterationRow) -> None:
        if not row.aggregated and not self._failure_told:
            self._failure_told = True
            self._report.warning(
                f"iteration {row.iteration} failed: its model is the one that it began with; {LIKELY_REASON}"
            )

    def _draw(self, run: Run) -> None:
        """Draw the figure during the run, so that it can be watched, and Ctrl-C need not wait for matplotlib."""
        if time.monotonic() - self._drawn >= PICTURE_INTERVAL:
            self._result(run.iterations, run).plot(self._files.picture)
            self._drawn = time.monotonic()

    def _result(self, iterations: int, source: Run | RunState) -> TrainingResult:
        weights = source.weights if isinstance(source, RunState) else source.model
        privacy = self._spending.summary(len(self._history))
        untested, model = self._materials.untested, self._materials.model
        network = self._config.network.model
        return TrainingResult(self._title, iterations, self._history, weights, privacy, untested, model, network)

    def _write_up(self, result: TrainingResult) -> TrainingResult:
        self._files.write(self._materials.model, result, len(self._materials.users))
        self._folder.end(self._beginning.record, len(result.history), result.hash)
        return result
