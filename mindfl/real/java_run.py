"""Java clients as a run of the job: the same rows and the same model that mindfl's own clients give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mindfl.client import Traffic
from mindfl.client.uploading import digests, unchanged
from mindfl.data import Dataset, StoredDataset
from mindfl.errors import MindflError, ModelFormatError, SimulationError
from mindfl.lite import LiteModel
from mindfl.real.java_clients import JavaClients
from mindfl.real.java_device import JavaOutcome
from mindfl.real.java_files import JavaClientFiles, client_files, final_accuracies
from mindfl.real.java_settings import JavaSettings, check_jars
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim.config import JobConfig
from mindfl.sim.embedded_run import Observer
from mindfl.sim.engines import Weights
from mindfl.sim.history import IterationRow
from mindfl.sim.pairing import PairedDataset
from mindfl.sim.pool import ClientResult
from mindfl.sim.round_loop import Aggregated, Trained

#: fields of :class:`JavaSettings` that are those of the job, where the job has a value
_SAME = (
    *("jar_path", "case_jar_path", "lite_jar_path", "fl_name", "path_regex", "name_regex", "ssl_protocol"),
    *("deploy_env", "domain_name", "cert_path", "use_elb", "server_num", "thread_num", "cpu_bind_mode"),
    *("train_weight_name", "infer_weight_name", "server_mode", "batch_size", "input_shape", "heap", "parallel", "java"),
)


def java_settings(config: JobConfig, task: str) -> JavaSettings:
    """Return how the job's Java clients are started for ``task``."""
    values = {name: getattr(config, name) for name in _SAME}
    return JavaSettings(task=task, **{name: value for name, value in values.items() if value is not None})


def check_java(config: JobConfig) -> None:
    """Raise :class:`OptionError` or :class:`StorageError` for jars and options that no Java client can be started with.

    Asked before the model is made, which takes a while.
    """
    somewhere = config if not config.server_side.planned_here else config.derived(domain_name="http://127.0.0.1:1")
    check_jars(java_settings(somewhere, "train"))


def java_files(config: JobConfig, dataset: Dataset, users: Sequence[str]) -> list[JavaClientFiles]:
    """Return each user's files. Raises :class:`DataError` for data that are no bins."""
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
    """Training by Java clients: all rounds come once the clients have ended, also where one failed."""

    resumable = False
    values: Mapping[str, Any] = MappingProxyType({})
    arrays: Mapping[str, Any] = MappingProxyType({})
    stepwise = False

    def __init__(
        self,
        config: JobConfig,
        files: Sequence[JavaClientFiles],
        *,
        registry: ProcessRegistry,
        report: Callable[[str], None],
        observer: Observer,
        warn: Callable[[str], None] = lambda text: None,
        model: Callable[[], Weights] | None = None,
        valid: Mapping[int, bool] | None = None,
        initial: Weights | None = None,
    ) -> None:
        """``model`` tells the server's latest model; None: it is read from a client's file.

        ``valid`` tells which iterations the server aggregated, ``initial`` what it began with, as far as it is known.
        """
        self._files = files
        self._warn = warn
        self._model = model
        self._valid = valid or {}
        self._initial = initial
        self._failure: MindflError | KeyboardInterrupt | None = None
        self._rows = self._ended_rows()
        self._row: IterationRow
        self._traffic = Traffic()
        self.first, self.iterations = 1, config.iterations
        self.clients = JavaClients(
            config.work_dir, java_settings(config, "train"), files, registry=registry, report=report, observer=observer
        )

    @property
    def model(self) -> Weights:
        """The latest aggregated model, flat float32 arrays by name."""
        if self._model is not None:
            return self._model()
        done = [outcome for outcome in self.clients.outcomes if outcome.succeeded]
        if not done:
            raise SimulationError("no Java client has got the final model")
        return _weights(self._files[done[0].index].train_model)

    @property
    def traffic(self) -> Traffic:
        """What the clients' logs say of the rounds that :meth:`train` returned."""
        return self._traffic

    def choose(self, iteration: int) -> None:
        """All clients take part."""

    def train(self, iteration: int, cohort: Sequence[int] | None) -> Trained | None:
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
            index: ClientResult(name, each.losses[-1] if each.losses else math.nan, each.steps, None)
            for index, (name, each) in done.items()
            if each is not None
        }
        return Trained(iteration=row.iteration, results=results, seconds=row.seconds)

    def aggregate(self, trained: Trained) -> Aggregated:
        """Return what the logs, and the server where it is ours, say of it."""
        return Aggregated(valid=self._row.aggregated, loss=self._row.loss, samples=self._row.samples)

    def evaluate(self, trained: Trained) -> tuple[str, Mapping[str, float]]:
        """Return the accuracies that the clients logged."""
        return self._row.measured, self._row.accuracies

    def finish(self) -> None:
        """Raise what ended the clients, if anything failed."""
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
            # Java clients train any model; what mindfl's own runtime lacks keeps it from one measurement only.
            self._warn(
                f"the accuracy after the last iteration is not known, mindfl cannot evaluate the model: {lacking}"
            )
            return {}


def run_java_task(
    config: JobConfig,
    task: str,
    files: Sequence[JavaClientFiles],
    *,
    registry: ProcessRegistry,
    report: Callable[[str], None],
) -> list[JavaOutcome]:
    """Let the Java clients do ``inference``, ``getModel`` or what they make of another text; return how they ended."""
    clients = JavaClients(config.work_dir, java_settings(config, task), files, registry=registry, report=report)
    return clients.run()


def _weights(path: Path) -> Weights:
    return {name: values.reshape(-1) for name, values in LiteModel.load(path).weights.items()}
