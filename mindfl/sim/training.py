"""One training from its first round to its last file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from mindfl.algorithms.naming import describe, make_algorithm
from mindfl.algorithms.running_statistics import is_statistic
from mindfl.client.uploading import LIKELY_REASON
from mindfl.errors import OptionError
from mindfl.sim.callbacks import Callback, Model, NamedCallback, Progress, Reporter, restore
from mindfl.sim.card import about_run
from mindfl.sim.config import JobConfig
from mindfl.sim.confusion import Confusions
from mindfl.sim.history import History, HistoryFiles
from mindfl.sim.job_data import PairedDataset
from mindfl.sim.job_servers import Materials
from mindfl.sim.recording import (
    CALLBACKS,
    STOPPED,
    CardWriter,
    FigureDrawer,
    HistoryWriter,
    ModelWriter,
    ReporterCaller,
    StateSaver,
)
from mindfl.sim.result import Result
from mindfl.sim.result_files import ResultFiles
from mindfl.sim.round_loop import Run, run_rounds
from mindfl.sim.run_folder import Beginning, RunFolder
from mindfl.sim.upload_mode import PrivacySpending, mode_words
from mindfl.spelling import counted

#: makes the run of these materials, of so many iterations, that tells of uploads
Start: TypeAlias = Callable[[Materials, int, Callable[[Progress], None]], Run]


class JobTraining:
    """Puts the callbacks of a run together, runs its rounds, and ends with the result.

    ``callbacks`` are the user's. ``beginning`` says with which iteration the run begins.
    """

    def __init__(
        self,
        config: JobConfig,
        materials: Materials,
        beginning: Beginning,
        folder: RunFolder,
        files: ResultFiles,
        report: Reporter,
        callbacks: Sequence[NamedCallback],
        spending: PrivacySpending,
    ) -> None:
        self._config = config
        self._materials = replace(materials, start=beginning.state)
        self._beginning = beginning
        self._folder = folder
        self._report = report
        self._title = run_title(config, materials)
        self._own = callbacks
        self._history = History(beginning.rows)
        self._spending = spending
        self._iterations, self._stopped = spending.iterations, ""
        self._confusions = Confusions(materials.dataset.class_names, every=config.per_class)
        self._about = about_run(config, beginning.record, len(materials.users))
        if beginning.state is not None:
            self._confusions.restore(beginning.state, beginning.rows)
        self._writers: list[Callback] = [
            HistoryWriter(HistoryFiles(config.work_dir), self._history),
            ModelWriter(files, materials.model, len(materials.users), beginning.rows, self._result),
            ReporterCaller(report, spending),
            FigureDrawer(files, self._result),
            CardWriter(files),
        ]
        if config.tensorboard:
            from mindfl.tracking.tensorboard import TensorBoardWriter

            self._writers.append(TensorBoardWriter(beginning.rows, files.picture))

    def run(self, start: Start) -> Result:
        """Train, and write up the finished iterations, also if the run fails or is interrupted.

        Raises :class:`NotAggregatedError` where every iteration failed at the server.
        """
        state = self._materials.start
        for note in self._spending.notes():
            self._report.warning(note)
        model = self._materials.weights if state is None else state.weights
        for writer in self._writers:
            writer.begin(self._config, model)
        if self._is_done():
            return self._end(model, self._writers)
        kept = sorted(filter(is_statistic, self._materials.model.weights.keys() - self._materials.weights.keys()))
        if state is not None and kept:
            raise OptionError(
                f"the run cannot be resumed: each client kept running statistics such as {kept[0]} in memory",
                hint="--overwrite begins anew; statistics that travel with the weights are resumed",
            )
        restore(self._own, {} if state is None else state.values.get(CALLBACKS, {}))
        for callback in self._own:
            callback.begin(self._config, model)
        return self._train(start, model)

    def _train(self, start: Start, model: Model) -> Result:
        callbacks: list[Callback] = [*self._own, *self._writers]

        def upload(progress: Progress) -> None:
            for callback in callbacks:
                callback.upload(progress)

        run = start(self._materials, self._iterations, upload)
        saver = StateSaver(self._folder, self._history, run, self._own, self._confusions, model)
        if run.resumable:
            callbacks.insert(len(self._own) + 1, saver)
        self._report.stage(self._announcement())
        try:
            self._stopped = run_rounds(
                run, callbacks, self._spending.spent, self._confusions, len(self._materials.users)
            )
        except BaseException:
            # The finished iterations are written up, but the user must see the cause of the failure. The server may
            # have aggregated another one, which has no row.
            self._iterations = run.iterations
            with suppress(Exception):
                self._end(saver.model if run.resumable else run.model, [*self._writers, *self._own])
            raise
        self._iterations = run.iterations
        result = self._end(run.model, [*self._writers, *self._own])
        result.check(hint=LIKELY_REASON)
        return result

    def _is_done(self) -> bool:
        """Return whether there is nothing left to do, and say so."""
        state = self._materials.start
        if state is None:
            return False
        stopped = state.values.get(STOPPED)
        if stopped and self._iterations <= stopped["iterations"]:
            self._stopped = stopped["by"]
            text = f"{self._stopped} ended the run after iteration {state.iteration}: more --iterations go on with it"
            self._report.stage(text)
            return True
        if state.iteration >= self._iterations:
            self._report.stage(f"all {state.iteration} iterations are done already")
            return True
        return False

    def _announcement(self) -> str:
        text = f"training {counted(len(self._materials.users), 'client')}"
        done = len(self._beginning.rows)
        return f"{text}, from iteration {done + 1} on" if done else text

    def _result(self, weights: Model) -> Result:
        return Result(
            self._title,
            self._iterations,
            self._history,
            weights,
            privacy=self._spending.summary(len(self._history)),
            untested=self._materials.untested,
            model=self._materials.model,
            network=self._config.network.model,
            stopped=self._stopped,
            confusion=self._confusions.last,
            best_confusion=self._confusions.best,
            about=self._about,
            settings=self._beginning.record.settings,
        )

    def _end(self, weights: Model, callbacks: Sequence[Callback]) -> Result:
        result = self._result(weights)
        for callback in callbacks:
            callback.end(result)
        self._folder.end(self._beginning.record, len(result.history), result.hash)
        return result


def run_title(config: JobConfig, materials: Materials) -> str:
    """Return the title of a run, for its figure and summary: network, data, clients, server, modes, algorithm."""
    dataset = materials.dataset
    data = "synthetic handwriting" if dataset.synthetic else f"{dataset.title} ({dataset.source})"
    if isinstance(dataset, PairedDataset):
        data += f", tested on {dataset.test.title}"
    clients = f"{len(materials.users)} {config.client_side.title}"
    if materials.untested and config.evaluate != "central":
        clients += f" ({materials.untested} without test data)"
    server = ", MindSpore Federated's server" if config.server_side.reference else ""
    modes = mode_words(config) if config.server_side.planned_here else ""
    own = config.origin_train_model_path or Path(config.model_name)
    network = own.stem if config.model is None else config.network_name
    algorithm = make_algorithm(config.algorithm)
    by = "" if algorithm.is_fedavg else f", {describe(algorithm)}"
    return f"{network}, {data}, {clients}{server}{modes and f', {modes}'}{by}"
