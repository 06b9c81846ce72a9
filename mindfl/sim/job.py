"""The whole way in one object: export, convert, data, clients, training, inference."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindfl.client import ClientLog, DeviceClient, HttpTransport, InProcessTransport, Transport, run
from mindfl.data import Dataset, UserData
from mindfl.data.samples import check_name
from mindfl.errors import DataError, InterruptedRunError, SimulationError, StorageError
from mindfl.files import make_dir, write_atomic
from mindfl.lite import LiteModel
from mindfl.server import Coordinator, ServerConfig
from mindfl.sim.artefacts import Artefacts, check_model, locked
from mindfl.sim.config import JobConfig
from mindfl.sim.engines import Engine, LiteEngine
from mindfl.sim.executors import Executor, LocalExecutor
from mindfl.sim.federation import Federation, Progress
from mindfl.sim.history import History, HistoryFiles, IterationRow
from mindfl.sim.joined import JoinedFederation
from mindfl.sim.plot import load_matplotlib
from mindfl.sim.pool import ClientPool, client_settings, now_ms, sleep_ms
from mindfl.sim.result import TrainingResult

#: seconds between two drawings of the accuracy figure during a run
PICTURE_INTERVAL = 10.0


class Reporter(Protocol):
    """Is told how a job goes. :class:`Silent` ignores it; the command line draws a progress bar."""

    def stage(self, text: str) -> None:
        """A stage such as "exporting" begins."""

    def warning(self, text: str) -> None:
        """Something needs the user's attention; the job goes on."""

    def progress(self, progress: Progress) -> None:
        """A client uploaded."""

    def row(self, row: IterationRow) -> None:
        """An iteration ended."""


class Silent:
    """Reports nothing."""

    def stage(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def row(self, row: IterationRow) -> None:
        """Ignore."""


class FederatedLeNetJob:
    """A federated job: LeNet on a writer-partitioned data set, simulated devices, embedded server.

    Keyword arguments are those of :class:`~mindfl.sim.config.JobConfig`, plus ``reporter``. Every method can be called
    alone and again: what it needs is made first, what is there already is kept.

    Example:
        >>> job = FederatedLeNetJob(work_dir="run", client_num=10, iterations=3)  # doctest: +SKIP
        >>> result = job.run()  # doctest: +SKIP
        >>> print(result.summary())  # doctest: +SKIP
    """

    def __init__(self, *, reporter: Reporter | None = None, **settings: Any) -> None:
        self.config = JobConfig(**settings)
        self._report: Reporter = reporter or Silent()
        self._artefacts = Artefacts(self.config)

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
        return self._artefacts.dataset()

    def prepare_clients(self) -> list[str]:
        """Copy the starting model to ``<train_ms_name>{i}.ms`` for each client, as the tutorial does; return the paths.

        An empty list where the job has so many clients that they share one file (``per_client_models``).
        """
        return self._write_client_models(self._starting_model().content, self.config.client_num)

    def train(self) -> TrainingResult:
        """Run the federated iterations, writing logs, history, picture, summary and models into the work folder.

        Raises :class:`ClientError` naming the client that failed, :class:`InterruptedRunError` after Ctrl-C; what was
        finished by then is kept, and written up, in both cases.
        """
        try:
            with locked(self.config.work_dir):
                model = self._starting_model()
                dataset = self.prepare_data()
                users = self._users(dataset)
                engine = self._engine(model)
                self._write_client_models(model.content, len(users))
                self._remove_old_results(len(users))
                return self._federate(model, engine, dataset, users)
        except KeyboardInterrupt:
            raise InterruptedRunError("interrupted", hint="what was finished is kept") from None

    def run(self) -> TrainingResult:
        """Do everything: export, convert, data, clients, training."""
        return self.train()

    def infer(self) -> dict[str, NDArray[np.int_]]:
        """Predict the labels of each client's test data with the model training left; return them by client.

        Logs ``the predicted labels:`` in each ``client.log`` and writes ``predictions.csv``.
        """
        with locked(self.config.work_dir):
            dataset = self.prepare_data()
            users = self._users(dataset)
            self._report.stage("predicting")
            predicted = {}
            table = io.StringIO()
            rows = csv.writer(table)
            rows.writerow(["client", "user", "sample", "label", "predicted"])
            for index, name in enumerate(users):
                user = dataset.user(name)
                client, _ = self._device(index, user, self._trained_model(index))
                predicted[name] = client.inference()
                pairs = zip(user.test.labels[: user.test.size], predicted[name], strict=True)
                rows.writerows([index, name, i, label, guess] for i, (label, guess) in enumerate(pairs))
            write_atomic(self._predictions, table.getvalue())
            return predicted

    def get_model(self) -> dict[str, NDArray[np.float32]]:
        """Let each client fetch the server's latest model into its model file; return the weights.

        The embedded server holds what the last training left, or the starting model. With ``domain_name`` the server
        there is asked.
        """
        with locked(self.config.work_dir):
            dataset = self.prepare_data()
            users = self._users(dataset)
            source = self._starting_model() if self.config.domain_name else self._latest_model()
            transport = self._transport_to(source)
            self._report.stage("fetching the model")
            for index, name in enumerate(users):
                client, trainer = self._device(index, dataset.user(name), source)
                run(client.get_model(), transport, now_ms, sleep_ms)
                if self.config.writes_client_models:
                    source.save(self.config.client_model(index), trainer.weights())
            # Copied: they are lent, and a session serves many clients.
            return {name: value.reshape(source.weights[name].shape).copy() for name, value in trainer.weights().items()}

    def _transport_to(self, source: LiteModel) -> Transport:
        """Return the way to the server in ``domain_name``, or to an embedded one that gives ``source`` away."""
        if self.config.domain_name is not None:
            return HttpTransport(self.config.server_settings())
        settings = ServerConfig(fl_iteration_num=self.config.iterations, start_fl_job_threshold=1)
        return InProcessTransport(Coordinator(settings, source.weights))

    @property
    def trained_model_path(self) -> str:
        """The file that holds the aggregated model after training."""
        return str(self.config.models / f"{self.config.train_ms_name}_trained.ms")

    @property
    def _picture(self) -> Path:
        return self.config.work_dir / "accuracy.png"

    @property
    def _summary(self) -> Path:
        return self.config.work_dir / "summary.txt"

    @property
    def _predictions(self) -> Path:
        return self.config.work_dir / "predictions.csv"

    def _starting_model(self) -> LiteModel:
        self._report.stage("preparing the model")
        model = self._artefacts.starting_model()
        check_model(model, self.config)
        return model

    def _engine(self, model: LiteModel) -> Engine:
        config = self.config
        if config.engine == "lite":
            from mindfl.lite.kernels import is_cached

            if not is_cached():
                self._report.stage("compiling the device runtime (once per machine, about half a minute)")
            return LiteEngine(model)
        from mindfl.export.optimizers import OptimizerSettings
        from mindfl.sim.mindspore_engine import MindSporeEngine

        return MindSporeEngine(
            model,
            name=config.model,
            optimizer=OptimizerSettings(config.optimizer, config.rate, config.momentum),
            batch_size=config.batch_size,
            device_target=config.device_target,
        )

    def _users(self, dataset: Dataset) -> list[str]:
        """Return the first ``client_num`` usable users, read to the end; broken ones are named and passed over."""
        usable: list[str] = []
        broken: list[DataError] = []
        for name in dataset.users:
            if len(usable) == self.config.client_num:
                break
            try:
                user = dataset.user(check_name(name))
                user.train.planes(), user.test.planes()
                usable.append(name)
            except DataError as error:
                broken.append(error)
                self._report.warning(f"left out: {error}")
        if not usable:
            raise broken[0] if broken else DataError(f"the data set {dataset.root} has no users")
        if len(usable) < self.config.client_num:
            self._report.warning(
                f"the data set {dataset.root} has {len(usable)} usable users, {self.config.client_num} were asked for"
            )
        return usable

    def _write_client_models(self, content: bytes, clients: int) -> list[str]:
        paths: list[str] = []
        for index in range(clients if self.config.writes_client_models else 0):
            path = self.config.client_model(index)
            write_atomic(path, content)
            paths.append(str(path))
        return paths

    def _remove_old_results(self, clients: int) -> None:
        """Remove what an earlier run left and this one may not come to overwrite."""
        results = [Path(self.trained_model_path), self._picture, self._summary, self._predictions]
        for path in (*results, *map(self.config.client_log, range(clients))):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError.from_os_error(error, "remove", path) from None

    def _federate(self, model: LiteModel, engine: Engine, dataset: Dataset, users: Sequence[str]) -> TrainingResult:
        load_matplotlib()  # so that Ctrl-C in the first iteration need not wait for it
        files = HistoryFiles(make_dir(self.config.work_dir))
        files.begin()
        history = History()

        federation = self._federation(model, engine, dataset, users)
        self._report.stage(f"training {len(users)} clients")

        def result() -> TrainingResult:
            name = dataset.root.resolve().name.encode(errors="replace").decode()
            data = "synthetic handwriting" if dataset.synthetic else f"{name} ({dataset.source})"
            title = f"{self.config.model}, {data}, {len(users)} clients"
            return TrainingResult(title, federation.iterations, history, federation.model)

        try:
            with closing(federation.rows()) as rows:
                drawn = time.monotonic()
                for row in rows:
                    files.append(row)
                    history.append(row)
                    self._report.row(row)
                    # Drawn during the run, so that it can be watched, and so that Ctrl-C need not wait for matplotlib.
                    if time.monotonic() - drawn >= PICTURE_INTERVAL:
                        result().plot(self._picture)
                        drawn = time.monotonic()
        except BaseException:
            # Whatever ended the run, the iterations that did end are written up; the cause is what the user must see.
            with suppress(Exception):
                self._write_up(model, result(), len(users))
            raise
        self._write_up(model, result(), len(users))
        return result()

    def _federation(
        self, model: LiteModel, engine: Engine, dataset: Dataset, users: Sequence[str]
    ) -> Federation | JoinedFederation:
        config, observer = self.config, self._report.progress
        if config.domain_name is not None:
            transport = HttpTransport(config.server_settings())
            return JoinedFederation(config, ClientPool(config, engine, dataset, users), len(users), transport, observer)

        def executor(coordinator: Coordinator) -> Executor:
            if config.executor == "ray":
                from mindfl.sim.ray_executor import NodeSetup, RayExecutor

                absolute = replace(config, work_dir=config.work_dir.resolve())
                setup = NodeSetup(absolute, model.content, str(dataset.root.resolve()), tuple(users))
                return RayExecutor(coordinator, setup, config.ray_address)
            pool = ClientPool(config, engine, dataset, users)
            return LocalExecutor(coordinator, pool, http=config.transport == "http")

        return Federation(config, model.weights, len(users), executor, observer)

    def _write_up(self, model: LiteModel, result: TrainingResult, clients: int) -> None:
        write_atomic(self._summary, result.summary() + "\n")
        if not len(result.history):
            return
        trained = model.patched(result.weights)
        write_atomic(self.trained_model_path, trained)
        self._write_client_models(trained, clients)
        result.plot(self._picture)

    def _trained_model(self, index: int) -> LiteModel:
        own = self.config.client_model(index)
        return LiteModel.load(own) if own.exists() else self._latest_model()

    def _latest_model(self) -> LiteModel:
        with suppress(StorageError):
            return LiteModel.load(self.trained_model_path)
        if self.config.client_model(0).exists():
            return LiteModel.load(self.config.client_model(0))
        raise SimulationError(f"there is no trained model in {self.config.models}", hint="run --task train first")

    def _device(self, index: int, user: UserData, model: LiteModel) -> tuple[DeviceClient, Any]:
        """Return a client, with the model loaded, and its trainer."""
        trainer = _engine_of(model.content).trainer(user, threading.Event())
        log = ClientLog(self.config.client_log(index), datetime.now)
        return DeviceClient(client_settings(self.config, index, user), trainer, now_ms, log), trainer


@lru_cache(maxsize=1)
def _engine_of(content: bytes) -> LiteEngine:
    """Return an engine; clients one after the other mostly have the same model."""
    return LiteEngine(LiteModel.from_bytes(content))
