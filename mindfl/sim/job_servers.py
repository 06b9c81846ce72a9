"""Servers of a job: starts its own, or connects to a running one, and returns the run of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mindfl.algorithms.naming import make_algorithm
from mindfl.data import Dataset
from mindfl.modes import PLAIN
from mindfl.server import Coordinator
from mindfl.sim.backends import ClientProcesses, StartedServer
from mindfl.sim.callbacks import Reporter
from mindfl.sim.client_memory import StoredMemories
from mindfl.sim.client_pool import ClientPool
from mindfl.sim.config import JobConfig
from mindfl.sim.embedded_run import EmbeddedRun, Observer
from mindfl.sim.engines import Engine, Weights
from mindfl.sim.evaluation import affordable_every
from mindfl.sim.executors import Executor, LocalExecutor
from mindfl.sim.job_data import ClientSamples, central_parts
from mindfl.sim.network_model import JobModel
from mindfl.sim.remote_run import RemoteRun
from mindfl.sim.round_loop import Run
from mindfl.sim.run_state import RunState
from mindfl.sim.upload_mode import server_settings

if TYPE_CHECKING:
    from mindfl.real import FederatedServer

    Server = Coordinator | FederatedServer

#: settings that nodes of a Ray cluster do not need: they receive the objects made from them
_MATERIALS = ("train_dataset", "test_dataset", "infer_dataset", "model", "sampler")


@dataclass(frozen=True)
class Materials:
    """The model, data and clients of a training.

    Args:
        model: the model file that training begins with.
        weights: its weights that clients exchange with the server.
        engine: makes the trainers of simulated clients; None for Java clients.
        dataset: the data of all clients.
        samples: the clients, with their numbers of samples.
        start: state to resume from; None: training begins at the first iteration.
    """

    model: JobModel
    weights: Weights
    engine: Engine | None
    dataset: Dataset
    samples: Sequence[ClientSamples]
    start: RunState | None = None

    @property
    def untested(self) -> int:
        """The number of clients without test data."""
        return sum(not client.test for client in self.samples)

    @property
    def users(self) -> tuple[str, ...]:
        """The clients' names."""
        return tuple(client.name for client in self.samples)


class JobServers:
    """The servers that a job started; closing it ends them. ``server`` is the one in use, None before the first."""

    def __init__(self, config: JobConfig, report: Reporter) -> None:
        self._config = config
        self._report = report
        self._open = ExitStack()
        self._joined: JobConfig | None = None
        self.server: Server | None = None

    def close(self) -> None:
        """End the servers."""
        self._joined = None
        self._open.close()

    def reach(self) -> None:
        """Look for what the job needs elsewhere: a training that cannot begin must not replace an earlier result.

        Raises :class:`OptionError` for a Ray cluster, or a program of a server, that is not there, and
        :class:`TransportError` for a server that cannot be reached.
        """
        config = self._config
        if config.client_side.spread:
            from mindfl.sim.ray_executor import check_address

            check_address(config.ray_address)
        if isinstance(config.server_side, StartedServer):
            config.server_side.check(config)
        elif not config.server_side.planned_here:
            from mindfl.client import HttpTransport

            with HttpTransport(config.server_settings()) as transport:
                transport.reach()

    def run(self, materials: Materials, iterations: int, upload: Observer) -> Run:
        """Return the training of ``materials``, with a server of its own where the job has none elsewhere.

        ``upload`` is called after each client's upload.
        """
        self.close()
        config, clients = self._config.derived(iterations=iterations), len(materials.samples)
        if isinstance(config.server_side, StartedServer):
            config = self._start(config.server_side, config, materials.weights, clients)
        if isinstance(config.client_side, ClientProcesses):
            return self._processes_run(config.client_side, config, materials, upload)
        if not config.server_side.embedded:
            from mindfl.client import HttpTransport

            transport = HttpTransport(config.server_settings())
            pool = self._pool(config, materials)
            pool.memories = StoredMemories(config.work_dir, materials.weights)
            return RemoteRun(
                config,
                pool,
                clients,
                transport,
                upload,
                in_turn=self._joined is not None,
                affordable=lambda cohort: _affordable_every(config, materials, cohort),
            )
        if config.evaluate_every is None and config.evaluate != "drawn":
            config = config.derived(evaluate_every=_affordable_every(config, materials, config.cohort))
        executor = self._executor(config, materials)
        return EmbeddedRun(config, materials.weights, clients, executor, upload, materials.start)

    def reached(self, weights: Weights, *, over_http: bool) -> JobConfig:
        """Return the settings of a connection to a server with the trained model, or with ``weights``.

        Without ``over_http`` the embedded server needs no address; it is in ``server``.
        """
        if self._joined is not None:
            return self._joined
        if not self._config.server_side.planned_here:
            return self._config
        plain = self._config.derived(encrypt_type=PLAIN)  # nothing is uploaded
        if isinstance(self._config.server_side, StartedServer):
            return self._start(self._config.server_side, plain, weights, 1)
        coordinator = Coordinator(server_settings(plain, 1), weights)
        self.server = coordinator
        return self._serve(coordinator) if over_http else self._config

    def _start(self, side: StartedServer, config: JobConfig, weights: Weights, clients: int) -> JobConfig:
        server = side.make(config, weights, clients, self._tell)
        self.server = self._open.enter_context(server)
        self._joined = config.derived(
            domain_name=server.url,
            cert_path=server.cert_path,
            use_elb=config.server_num > 1,
            enable_ssl=False,
            redis_address=None,
            python=None,
        )
        return self._joined

    def _serve(self, coordinator: Coordinator) -> JobConfig:
        from mindfl.server.http import BackgroundServer

        server = self._open.enter_context(BackgroundServer(coordinator))
        self._joined = self._config.derived(domain_name=server.url)
        return self._joined

    def _processes_run(self, side: ClientProcesses, config: JobConfig, materials: Materials, upload: Observer) -> Run:
        model = None
        valid: dict[int, bool] = {}
        if config.server_side.embedded:
            coordinator = Coordinator(
                server_settings(config, len(materials.users)),
                materials.weights,
                on_iteration_end=lambda record: valid.update({record.iteration: record.valid}),
                algorithm=make_algorithm(config.algorithm),
                lr_schedule=config.lr_schedule,
            )
            self.server, model = coordinator, lambda: coordinator.model
            config = self._serve(coordinator)
        return side.training(
            config,
            materials.dataset,
            materials.users,
            report=self._tell,
            observer=upload,
            model=model,
            valid=valid,
            initial=None if self._joined is None else materials.weights,
        )

    def _executor(self, config: JobConfig, materials: Materials) -> Callable[[Coordinator], Executor]:
        def executor(coordinator: Coordinator) -> Executor:
            self.server = coordinator
            if config.client_side.spread:
                from mindfl.sim.ray_executor import NodeSetup, RayExecutor

                there = config.derived(work_dir=config.work_dir.resolve(), callbacks=(), **dict.fromkeys(_MATERIALS))
                setup = NodeSetup(there, materials.model.content, materials.dataset, tuple(materials.users))
                return RayExecutor(coordinator, setup, config.ray_address)
            return LocalExecutor(coordinator, self._pool(config, materials), http=config.transport == "http")

        return executor

    def _pool(self, config: JobConfig, materials: Materials) -> ClientPool:
        assert materials.engine is not None
        own = config.server_side.planned_here or self._joined is not None
        return ClientPool(config, materials.engine, materials.dataset, materials.users, own_server=own)

    def _tell(self, text: str) -> None:
        if text.startswith("warning: "):
            self._report.warning(text.removeprefix("warning: "))
        else:
            self._report.stage(text)


def _affordable_every(config: JobConfig, materials: Materials, cohort: int) -> int:
    sizes = [(client.train, client.test) for client in materials.samples]
    central = None
    if config.evaluate == "central":
        central = sum(part.test.size for part in central_parts(materials.dataset, materials.users))
    batch_size = config.network.batch_size
    return affordable_every(sizes, batch_size=batch_size, epochs=config.epochs, cohort=cohort, central=central)
