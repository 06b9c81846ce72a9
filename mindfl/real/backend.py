"""MindSpore Federated's server and Java clients as backends of a job, registered in :mod:`mindfl.sim.backends`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mindfl.data import Dataset
from mindfl.sim.backends import OF_RAY, ClientProcesses, IgnoredOption, StartedServer

if TYPE_CHECKING:
    from mindfl.real.federated_server import FederatedServer
    from mindfl.real.java_device import JavaOutcome
    from mindfl.sim.config import JobConfig
    from mindfl.sim.embedded_run import Observer
    from mindfl.sim.engines import Weights
    from mindfl.sim.round_loop import Run

Report = Callable[[str], None]

#: time windows of the server in ms: clients that share processors are slow, and its 32-bit fields hold a day
LONG_WINDOW = 24 * 3600 * 1000
_JAVA = "the Java clients"


@dataclass(frozen=True, kw_only=True)
class RealServer(StartedServer):
    """MindSpore Federated 0.1.0's own server, started and stopped by the job."""

    reference: bool = True
    needs_all: ClassVar[str] = "stack federated needs all clients in each iteration"

    def check(self, config: JobConfig) -> None:
        """See :meth:`StartedServer.check`."""
        from mindfl.real.federated_environment import find_python
        from mindfl.real.federated_redis import reach_redis, redis_server

        if config.redis_address is not None:
            reach_redis(config.redis_address)
        find_python(config.python)
        if config.redis_address is None:
            redis_server()

    def make(self, config: JobConfig, weights: Weights, clients: int, report: Report) -> FederatedServer:
        """See :meth:`StartedServer.make`."""
        from mindfl.real.federated_config import FederatedConfig
        from mindfl.real.federated_server import FederatedServer
        from mindfl.server.settings.reader import yaml_keys
        from mindfl.sim.upload_mode import federated_settings

        settings = FederatedConfig(
            # A Redis that keeps its data continues a job of the same name, or refuses it after its end.
            fl_name=f"{config.network_name}_{uuid.uuid4().hex[:12]}",
            iterations=config.iterations,
            clients=clients,
            epochs=config.epochs,
            batch_size=config.network.batch_size,
            learning_rate=config.rate,
            start_fl_job_time_window=LONG_WINDOW,
            update_model_time_window=LONG_WINDOW,
            global_iteration_time_window=LONG_WINDOW,
            server_num=config.server_num,
            tls=config.enable_ssl,
            redis_address=config.redis_address,
            python=config.python,
            settings=yaml_keys(federated_settings(config, clients, LONG_WINDOW)),
        )
        return FederatedServer(config.work_dir, settings, weights, report=report)


@dataclass(frozen=True, kw_only=True)
class JavaClientSide(ClientProcesses):
    """MindSpore Federated's own clients, a process each."""

    name: ClassVar[Literal["embedded", "java"]] = "java"
    title: ClassVar[str] = "Java clients"
    needs_all: ClassVar[str] = "Java clients all take part"

    @property
    def on_cpu(self) -> str:
        """See :attr:`ClientSide.on_cpu`."""
        return "Java clients train"

    @property
    def ignores(self) -> tuple[IgnoredOption, ...]:
        """See :attr:`ClientSide.ignores`."""
        return (
            IgnoredOption(
                ("workers", "engine", "operator", "transport", "per_client_models"),
                _JAVA,
                "each is a process of its own that trains with MindSpore Lite",
            ),
            IgnoredOption(("shuffle",), _JAVA, "they keep the order of the data"),
            IgnoredOption(("save_every", "save_best"), _JAVA, "their model is known at the end only"),
            IgnoredOption(
                ("client_cert", "client_key", "crl_path"),
                _JAVA,
                "they show no certificate and read no revocation list",
            ),
            IgnoredOption(("per_class",), _JAVA, "they tell their accuracy, not their predictions"),
            IgnoredOption(
                ("evaluate", "evaluate_every"), _JAVA, "each evaluates in every iteration that it takes part in"
            ),
            *self.engine.ignores,
            OF_RAY,
        )

    def check(self, config: JobConfig) -> None:
        """See :meth:`ClientProcesses.check`."""
        from mindfl.real.java_command import check_jars
        from mindfl.real.java_run import java_settings

        # The server that the job starts later has no address yet.
        addressed = config.derived(domain_name=config.domain_name or "http://127.0.0.1:1")
        check_jars(java_settings(addressed, "train"))

    def training(
        self,
        config: JobConfig,
        dataset: Dataset,
        users: Sequence[str],
        *,
        report: Report,
        observer: Observer,
        model: Callable[[], Weights] | None,
        valid: Mapping[int, bool],
        initial: Weights | None,
    ) -> Run:
        """See :meth:`ClientProcesses.training`."""
        from mindfl.real.java_run import JavaRun, java_files

        files = java_files(config, dataset, users)
        sizes = {name: dataset.user(name).test.size for name in users}
        return JavaRun(
            config,
            files,
            report=report,
            observer=observer,
            model=model,
            valid=valid,
            initial=initial,
            test_sizes=sizes,
        )

    def perform(
        self, config: JobConfig, task: str, dataset: Dataset, users: Sequence[str], report: Report
    ) -> list[JavaOutcome]:
        """See :meth:`ClientProcesses.perform`."""
        from mindfl.real.java_clients import JavaClients
        from mindfl.real.java_run import java_files, java_settings

        files = java_files(config, dataset, users)
        return JavaClients(config.work_dir, java_settings(config, task), files, report=report).run()
