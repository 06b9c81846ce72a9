"""A federated job as one object: export, conversion, data, clients, training, inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mindfl.algorithms.naming import make_algorithm
from mindfl.algorithms.running_statistics import is_statistic
from mindfl.client import InProcessTransport, Transport, run
from mindfl.data import Dataset, fingerprint
from mindfl.files import PathLike, local_path, write_atomic
from mindfl.float_environment import default_float_environment
from mindfl.lite import LiteModel, use_operators
from mindfl.models import Model
from mindfl.server import Coordinator
from mindfl.sim import run_record
from mindfl.sim.artefacts import Artefacts, model_path
from mindfl.sim.backends import ClientProcesses
from mindfl.sim.callbacks import PythonReporter, Reporter, Silent, make_callbacks
from mindfl.sim.compatibility import check_cohort, check_packages
from mindfl.sim.config import JobConfig
from mindfl.sim.earlier_names import refuse_earlier_name
from mindfl.sim.history import check_metric
from mindfl.sim.job_data import (
    ClientSamples,
    check_central,
    check_data,
    first_samples,
    open_data,
    usable_users,
)
from mindfl.sim.job_models import JobModels
from mindfl.sim.job_servers import JobServers, Materials
from mindfl.sim.model_options import settled
from mindfl.sim.notebook import job_html
from mindfl.sim.option_warnings import unused_settings
from mindfl.sim.participant import now_ms, single_device, sleep_ms
from mindfl.sim.pooled_data import pooled
from mindfl.sim.progress_bar import default_reporter
from mindfl.sim.result import Result
from mindfl.sim.result_files import ResultFiles
from mindfl.sim.run_folder import RunFolder, locked, model_folders
from mindfl.sim.run_record import Repetition, RunRecord
from mindfl.sim.trainers import exchanged_weights, job_engine, mindspore_engine
from mindfl.sim.training import JobTraining
from mindfl.sim.upload_mode import PrivacySpending
from mindfl.spelling import check_keywords, counted

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from mindfl.options.keywords import JobKeywords
    from mindfl.real.java_device import JavaOutcome
    from mindfl.sim.job_servers import Server

__all__ = ["ClientFiles", "FederatedJob", "FederatedLeNetJob", "PythonReporter", "Reporter", "Silent"]

SINGLE = "single"
"""Task of Java clients for one record: any text but the three known ones, the tutorial says."""


@dataclass(frozen=True)
class ClientFiles:
    """Client ``index`` of a job: the user of the data set whose data it has, its model files, and its log.

    ``infer_model`` is None if it has one model file only.
    """

    index: int
    name: str
    model: Path
    infer_model: Path | None
    log: Path


class FederatedJob:
    """A federated job: a network on a data set partitioned by users, simulated clients, embedded server.

    Every method can be called alone and repeatedly: missing files are made first, existing ones are kept. With
    ``stack="federated"`` the server is MindSpore Federated's own, with ``clients="java"`` the clients are.

    Args:
        reporter: observes stages, progress, rows and warnings. By default, warnings are issued as
            :class:`~mindfl.errors.MindflWarning`, and stages are logged to the logger ``mindfl``; notebooks
            and terminals also show a progress bar.
        settings: the options of the job, declared in :class:`~mindfl.options.job_options.JobOptions`; docs/options.md
            lists them. Editors and type checkers know their names and types.

    Raises:
        OptionError: a keyword is unknown, a value is out of range, or options contradict each other.

    Servers and processes that a method started are ended when it returns; in a ``with`` block, at the end of the block.
    ``server`` is the one in use (a :class:`~mindfl.server.Coordinator` or a
    :class:`~mindfl.real.FederatedServer`), ``clients`` are those that took part last, ``result`` is that of
    the latest training: None, () and None at first.

    Another network is federated with ``model``: a MindSpore class, ``"file.py:Class"``, or a name in
    :data:`mindfl.models.MODELS`; or by a subclass that sets :attr:`model`.

    Example:
        >>> with FederatedJob(work_dir="first run", client_num=2, iterations=1) as job:
        ...     print(job.run().history[-1].clients)
        2
    """

    model: ClassVar[Model | None] = None

    def __init__(self, *, reporter: Reporter | None = None, **settings: Unpack[JobKeywords]) -> None:
        check_keywords(settings, ("reporter", *JobConfig.__dataclass_fields__), type(self).__name__)
        recorded = _recorded(settings)
        given = JobConfig(**{"model": type(self).model, **recorded, **settings})
        self.config, notes = settled(given)
        refuse_earlier_name(self.config)
        self.clients: tuple[ClientFiles, ...] = ()
        self.result: Result | None = None
        use_operators(self.config.operator)
        self._report: Reporter = reporter or default_reporter()
        self._artefacts = Artefacts(self.config, self._report.stage, self._report.warning)
        self._files = ResultFiles(self.config)
        self._models = JobModels(self.config, self._artefacts, self._files, self._report)
        self._servers = JobServers(self.config, self._report)
        self._in_block = False
        self._repeats: Repetition | None = None
        for text in (*notes, *unused_settings(given, recorded.keys() - settings.keys())):
            self._report.warning(text)

    @classmethod
    def from_config(cls, path: PathLike, *, reporter: Reporter | None = None, **settings: Unpack[JobKeywords]) -> Self:
        """Return the job that repeats a run: ``path`` is its ``config.json``; ``settings`` replace those there.

        The folders that the run wrote to are not taken over. Training raises :class:`OptionError` where the data, or a
        model of the user's own, are not the earlier ones, and warns where the weights come out otherwise.

        Example:
            >>> again = FederatedJob.from_config("run/config.json", work_dir="again")
            >>> again.run().hash == result.hash
            True
        """
        earlier = RunRecord.load(local_path(path))
        repeated = {**earlier.repeatable(), **settings}
        run_record.check_recorded(repeated, Path(path))
        job = cls(reporter=reporter, **repeated)
        job._repeats = Repetition(Path(path), earlier, settings.keys())
        return job

    def __enter__(self) -> Self:
        self._in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_block = False
        self.close()

    def _repr_html_(self) -> str:
        return job_html(type(self).__name__, self.config, self.result)

    def close(self) -> None:
        """End the servers and processes that this job started; safe at any time."""
        self._servers.close()

    @property
    def server(self) -> Server | None:
        """The server in use, or used last."""
        return self._servers.server

    @property
    def trained_model_path(self) -> str:
        """The file that holds the aggregated model after training."""
        return str(self._files.trained)

    def check_work_dir(self) -> None:
        """Raise :class:`OptionError` where the work folder holds a result that training would replace."""
        RunFolder(self.config, self._report.warning).check()

    def export(self) -> str:
        """Export the training graph; return the path of the MINDIR. Raises :class:`ExportError`."""
        self._report.stage("exporting the training graph with MindSpore")
        return str(self._artefacts.export())

    def convert(self) -> str:
        """Convert the MINDIR (exporting it first if need be); return the path of the ``.ms`` file."""
        self._report.stage("converting it to an on-device training model")
        return str(self._artefacts.convert())

    def prepare_data(self) -> Dataset:
        """Open the data set; draw a synthetic one where none was given."""
        self._report.stage("opening the data set")
        return open_data(self.config, self._report.warning)

    def prepare_clients(self) -> list[str]:
        """Copy the starting model to ``lenet_train{i}.ms`` for each client, as the tutorial does; return the paths.

        An empty list where the job has so many clients that they share one file (``per_client_models``).
        """
        return [str(path) for path in self._models.write(self._models.starting(), self.config.client_num)]

    def train(self) -> Result:
        """Run the federated iterations, writing logs, history, picture, summary and models into the work folder.

        Raises :class:`ClientError` naming the client that failed, :class:`NotAggregatedError` where every iteration
        failed at the server, ``KeyboardInterrupt`` after Ctrl-C; what was finished by then is kept, and written up.
        """
        with self._working():
            check_packages(self.config)
            own = make_callbacks(self.config.callbacks)
            folder = RunFolder(self.config, self._report.warning)
            folder.check()
            materials = self._materials()
            record = self._record(materials)
            if self._repeats is not None:
                self._repeats.check(record, self._report.warning)
            if self.config.resume and materials.engine is not None:
                check_metric(materials.engine.metric, self.config.work_dir)
            spending = PrivacySpending(self.config, len(materials.users))
            self._servers.reach()
            beginning = folder.begin(record)
            self._files.write_clients(materials.samples)
            if beginning.state is None:
                self._models.write(materials.model, len(materials.users))
                self._models.remove_old(len(materials.users))
            training = JobTraining(self.config, materials, beginning, folder, self._files, self._report, own, spending)
            self.result = training.run(self._servers.run)
            if self._repeats is not None and (warning := self._repeats.compare(self.result)):
                self._report.warning(warning)
            return self.result

    def run(self) -> Result:
        """Do everything: export, convert, data, clients, training."""
        return self.train()

    def infer(self, samples: int | None = None) -> dict[str, NDArray[np.int_]]:
        """Predict the labels of each client's test data with the model training left; return them by client.

        ``samples``: only so many of each client's; None: all. Logs ``the predicted labels:`` in each ``client.log`` and
        writes ``predictions.csv``. Without training the model is used as it is, and a warning says so. Java clients
        that do not tell their labels are left out of the result.
        """
        with self._working():
            dataset = open_data(self.config, self._report.warning, inference=True)
            users = [first_samples(dataset.user(name), samples) for name in self._users(dataset)]
            self._models.check_trained(len(users))
            self._warn_of_untested([user.test.size for user in users], "nothing to predict")
            self._report.stage("predicting")
            if not self.config.client_side.simulated:
                predicted = self._labels_of_java(dataset, "inference" if samples is None else SINGLE)
            else:
                engine = None if self.config.converts else mindspore_engine(self.config, self._models.latest())
                predicted = {
                    user.name: single_device(self.config, index, user, self._models.of_client(index), engine=engine)[
                        0
                    ].inference()
                    for index, user in enumerate(users)
                }
            self._files.write_predictions(predicted, users, dataset.class_names)
            return predicted

    def get_model(self) -> dict[str, NDArray[np.float32]]:
        """Let each client fetch the server's latest model into its model file; return the weights in the order of
        devices. :meth:`LiteModel.to_mindspore` of a client's model file turns them into MindSpore's.

        The embedded server, and a real one that has to be started for it, hold what the last training left, or the
        starting model. With ``domain_name`` the server there is asked.
        """
        with self._working():
            check_packages(self.config, "getModel")
            dataset = self.prepare_data()
            users = self._users(dataset)
            source = self._models.starting() if not self.config.server_side.planned_here else self._models.latest()
            self._report.stage("fetching the model")
            config = self._servers.reached(source.weights, over_http=not self.config.client_side.simulated)
            if not config.client_side.simulated:
                self._run_java(config, "getModel", dataset)
                return {name: value.copy() for name, value in LiteModel.load(config.client_model(0)).weights.items()}
            transport = self._transport(config)
            fetched: list[Path] = []
            for index, name in enumerate(users):
                client, trainer = single_device(self.config, index, dataset.user(name), source, fetches=True)
                run(client.get_model(), transport, now_ms, sleep_ms)
                if self.config.writes_client_models:
                    source.save(self.config.client_model(index), trainer.weights())
                    fetched.append(self.config.client_model(index))
            self._files.fetched([*fetched, *self._files.update_second_models(trainer.weights(), source, len(users))])
            # Copied: they are lent, and a session serves many clients.
            weights = {name: values.copy() for name, values in trainer.weights().items()}
            return {name: values.reshape(source.weights[name].shape) for name, values in weights.items()}

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Lock the folders; at the end, stop servers and processes, unless the job is used in a ``with`` block."""
        try:
            with default_float_environment(), locked(self.config.work_dir):
                if isinstance(self.config.client_side, ClientProcesses):
                    self.config.client_side.check(self.config)
                with model_folders(self.config):
                    yield
        finally:
            if not self._in_block:
                self.close()

    def _materials(self) -> Materials:
        model = self._models.starting()
        dataset = self.prepare_data()
        if make_algorithm(self.config.algorithm).pools_data:
            dataset = pooled(self.config, dataset, self._report.warning)
        check_data(model, dataset, model_path(self.config))
        if self.config.per_class and self.config.metric is None and dataset.form.regression:
            self._report.warning("--per_class has no effect on this job: its labels are numbers, not classes")
        samples = self._samples(dataset)
        if self.config.evaluate == "central":
            check_central(dataset, [client.name for client in samples])
        else:
            self._warn_of_untested([client.test for client in samples], "trained, but left out of the accuracy")
        check_cohort(self.config, len(samples))
        simulated = self.config.client_side.simulated
        engine = job_engine(self.config, model, len(samples), self._report.stage) if simulated else None
        names = engine.names if engine is not None else self.config.train_weights or tuple(model.weights)
        if self.config.server_side.reference:  # its clients upload what they train
            statistics = set(model.statistics if isinstance(model, LiteModel) else filter(is_statistic, names))
            names = tuple(name for name in names if name not in statistics)
        weights = exchanged_weights(model.weights, names, "the model")
        return Materials(model, weights, engine, dataset, samples)

    def _record(self, materials: Materials) -> RunRecord:
        data = fingerprint(materials.dataset, materials.users)
        return RunRecord.begin(self.config, data.as_dict(), self._artefacts.description(materials.model))

    def _users(self, dataset: Dataset) -> list[str]:
        return [client.name for client in self._samples(dataset)]

    def _samples(self, dataset: Dataset) -> list[ClientSamples]:
        usable = usable_users(dataset, self.config.client_num, self._report.warning)
        self.clients = tuple(self._client_files(index, client.name) for index, client in enumerate(usable))
        return usable

    def _client_files(self, index: int, name: str) -> ClientFiles:
        config = self.config
        second, log = config.client_infer_model(index), config.client_log(index)
        return ClientFiles(index, name, config.client_model(index), second, log)

    def _warn_of_untested(self, sizes: Sequence[int], what: str) -> None:
        if untested := sum(not size for size in sizes):
            self._report.warning(f"no test data for {untested} of {counted(len(sizes), 'client')}: {what}")

    def _labels_of_java(self, dataset: Dataset, task: str) -> dict[str, NDArray[np.int_]]:
        outcomes = self._run_java(self.config, task, dataset)
        told = {outcome.name: np.array(outcome.labels) for outcome in outcomes if outcome.labels is not None}
        if len(told) < len(outcomes):
            silent = len(outcomes) - len(told)
            self._report.warning(
                f"{counted(silent, 'Java client does', 'Java clients do')} not tell their labels: 0.1.0 logs "
                f"them at the level FINE only"
            )
        return told

    def _run_java(self, config: JobConfig, task: str, dataset: Dataset) -> list[JavaOutcome]:
        for client in self.clients:
            for path in (client.model, client.infer_model):
                if path is not None and not path.exists():
                    write_atomic(path, self._models.latest().content)
        side = config.client_side
        assert isinstance(side, ClientProcesses)
        return side.perform(config, task, dataset, [client.name for client in self.clients], self._report.stage)

    def _transport(self, config: JobConfig) -> Transport:
        if config.server_side.embedded:
            assert isinstance(self.server, Coordinator)
            return InProcessTransport(self.server)
        from mindfl.client import HttpTransport

        return HttpTransport(config.server_settings())


class FederatedLeNetJob(FederatedJob):
    """The tutorial's job: a :class:`FederatedJob` that trains LeNet unless ``model`` names another network.

    Example:
        >>> FederatedLeNetJob(work_dir="lenet run", client_num=2, iterations=1).run().network
        'lenet'
    """


def _recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded settings of the run that ``settings`` resume; none if there is no record of it."""
    path = local_path(settings.get("work_dir") or JobConfig.work_dir) / run_record.NAME
    if not settings.get("resume") or not path.exists():
        return {}
    recorded = RunRecord.load(path).own_settings()
    run_record.check_recorded({**recorded, **settings}, path)
    return recorded
