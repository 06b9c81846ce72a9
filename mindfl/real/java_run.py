"""Training by Java clients: a run of a job that gives the same rows and the same model as simulated clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mindfl.client import Traffic
from mindfl.client.uploading import digests, unchanged
from mindfl.data import Dataset, StoredDataset
from mindfl.errors import MindflError, ModelFormatError, SimulationError
from mindfl.lite import LiteModel
from mindfl.options import options_of
from mindfl.options.job_options import JobOptions
from mindfl.real.java_clients import JavaClients
from mindfl.real.java_files import JavaClientFiles, client_files, final_accuracies
from mindfl.real.java_settings import TRAIN, JavaSettings
from mindfl.sim.config import JobConfig
from mindfl.sim.embedded_run import Observer
from mindfl.sim.engines import Weights
from mindfl.sim.evaluation import Evaluated, Measured
from mindfl.sim.history import IterationRow
from mindfl.sim.job_data import PairedDataset
from mindfl.sim.participant import ClientResult
from mindfl.sim.round_loop import Aggregated, TrainedRound


def java_settings(config: JobConfig, task: str) -> JavaSettings:
    """Return how the job's Java clients are started for ``task``."""
    same = options_of(JavaSettings).keys() & options_of(JobOptions).keys()
    given = {name: value for name in same if (value := getattr(config, name)) is not None}
    return JavaSettings(task=task, **given)


def java_files(config: JobConfig, dataset: Dataset, users: Sequence[str]) -> list[JavaClientFiles]:
    """Return each user's files. Raises :class:`DataError` for a data set that is no .bin files."""
    models = [config.client_model(index).absolute() for index in range(len(users))]
    seconds = [config.client_infer_model(index) for index in range(len(users))]
    infer = [path.absolute() for path in seconds if path is not None] or None
    if not isinstance(dataset, PairedDataset):
        return client_files(_absolute(dataset), users, models, infer)
    tests = _absolute(dataset.test)
    partners = [tests.name_of(dataset.partner(user)) for user in users]
    return client_files(_absolute(dataset.train), users, models, infer, test_dataset=tests, test_users=partners)


def _absolute(dataset: Dataset) -> Dataset:
    if isinstance(dataset, StoredDataset):
        dataset.root = dataset.root.absolute()
    return dataset


class JavaRun:
    """Training by Java clients. All rounds are returned after the clients have ended, also where one failed.

    The arguments are those of :meth:`mindfl.sim.backends.ClientProcesses.training`, and each client's number of test
    samples.
    """

    resumable = False
    values: Mapping[str, Any] = MappingProxyType({})
    arrays: Mapping[str, Any] = MappingProxyType({})
    stepwise = False

    def __init__(
        self,
        config: JobConfig,
        files: Sequence[JavaClientFiles],
        *,
        report: Callable[[str], None],
        observer: Observer,
        model: Callable[[], Weights] | None,
        valid: Mapping[int, bool],
        initial: Weights | None,
        test_sizes: Mapping[str, int],
    ) -> None:
        self._files = files
        self._test_sizes = test_sizes
        self._report = report
        self._model = model
        self._valid = valid
        self._initial = initial
        self._failure: MindflError | KeyboardInterrupt | None = None
        self._rows = self._ended_rows()
        self._row: IterationRow
        self._traffic = Traffic()
        self.first, self.iterations = 1, config.iterations
        settings = java_settings(config, TRAIN)
        self.clients = JavaClients(config.work_dir, settings, files, report=report, observer=observer)

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        if self._model is not None:
            return self._model()
        done = [outcome for outcome in self.clients.outcomes if outcome.succeeded]
        if not done:
            raise SimulationError("no Java client has downloaded the final model")
        trained = LiteModel.load(self._files[done[0].index].train_model)
        return {name: values.reshape(-1) for name, values in trained.weights.items()}

    def saved(self, iteration: int) -> None:
        """Nothing is saved: the clients' processes keep what they need."""

    @property
    def traffic(self) -> Traffic:
        """Bytes of the rounds that :meth:`train` returned, by the clients' logs."""
        return self._traffic

    def choose(self, iteration: int) -> None:
        """All clients take part."""

    def train(self, iteration: int, cohort: Sequence[int] | None) -> TrainedRound | None:
        """Run the clients to their ends at the first call; return one round after the other.

        Raises what :meth:`JavaClients.run` does, after the rounds that ended.
        """
        row = next(self._rows, None)
        if row is None:
            self.finish()
            return None
        self._row = row
        self._traffic += Traffic(0, row.bytes_up, row.bytes_down)
        logs = enumerate(self.clients.logs.items())
        done = {index: (name, log.completed.get(row.iteration)) for index, (name, log) in logs}
        results = {
            index: ClientResult(each.losses[-1] if each.losses else math.nan, each.steps, Measured(name, None))
            for index, (name, each) in done.items()
            if each is not None
        }
        return TrainedRound(
            iteration=row.iteration, results=results, seconds=row.seconds, learning_rate=row.learning_rate
        )

    def aggregate(self, trained: TrainedRound) -> Aggregated:
        """Return the result of a round by the logs, and by the server if it is embedded."""
        return Aggregated(valid=self._row.aggregated, loss=self._row.loss, samples=self._row.samples)

    def evaluate(self, trained: TrainedRound) -> Evaluated:
        """Return the accuracies in the clients' logs."""
        found = self._row.accuracies
        return Evaluated(
            measured=self._row.measured,
            accuracies=found,
            samples=sum(self._test_sizes[name] for name in found),
            correct=math.fsum(accuracy * self._test_sizes[name] for name, accuracy in found.items()),
        )

    def finish(self) -> None:
        """Raise the clients' failure, if there was one."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """The clients have ended."""

    def _ended_rows(self) -> Iterator[IterationRow]:
        try:
            self.clients.run()
        except (MindflError, KeyboardInterrupt) as error:
            self._failure = error
        started = [log.iterations for log in self.clients.logs.values()]
        self.iterations = max([*started, 0]) or self.iterations
        failed = self._failure is not None
        rows = self.clients.rows(None if failed else self._final_accuracies())
        stopped = not failed and self._is_untrained()
        for row in rows:
            aggregated = row.aggregated and self._valid.get(row.iteration, True) and not stopped
            yield replace(row, aggregated=aggregated)

    def _is_untrained(self) -> bool:
        """Return whether the model is the one that the server began with, though clients learned from it."""
        done = [each for log in self.clients.logs.values() for each in log.completed.values()]
        learned = any(len(set(each.losses)) > 1 for each in done)
        return self._initial is not None and learned and unchanged(digests(self._initial), digests(self.model))

    def _final_accuracies(self) -> Mapping[str, float]:
        try:
            return final_accuracies(self._files, self.model)
        except ModelFormatError as lacking:
            # Java clients can train models that mindfl's runtime cannot execute.
            self._report(
                "warning: the accuracy after the last iteration is not known, "
                f"mindfl cannot evaluate the model: {lacking}"
            )
            return {}
