"""Everything that can be chosen about a federated job, checked in one place."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mindfl.client import HttpSettings, TlsSettings
from mindfl.data.folder import local_path
from mindfl.errors import OptionError

EngineName = Literal["lite", "mindspore"]
ExecutorName = Literal["local", "ray"]
TransportName = Literal["in_process", "http"]
DataForm = Literal["compact", "bin"]

#: step sizes that train LeNet; Momentum's and SGD's are the tutorial's
LEARNING_RATES = {"momentum": 0.01, "sgd": 0.01, "adam": 0.001}
#: up to this many clients each gets a model file of its own, as in the tutorial
MODEL_FILES_LIMIT = 100


def default_workers() -> int:
    """Return one worker thread for each processor this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """Settings of a :class:`~mindfl.sim.FederatedLeNetJob`.

    Args:
        work_dir: folder for everything the job writes.
        train_dataset: data set made by ``mindfl data``, or the tutorial's folders; None: a synthetic one is drawn.
        train_model_path: folder of the model files; None: ``ms`` in the work folder.
        train_ms_name: common part of their names: ``<name>.ms`` to start from (made from ``<name>0.ms`` where only that
            is there), ``<name>{i}.ms`` of client i, ``<name>_trained.ms`` the result.
        model, init, optimizer, momentum: what is exported; see :func:`mindfl.export.export_mindir`.
        client_num: clients; the data set's first ones in natural order of name.
        clients_per_iteration: clients drawn for each iteration with the seed; None: all.
        iterations, epochs, batch_size, learning_rate: the federated plan; the rate's default depends on the optimizer.
        server_num: servers of the job; the embedded one needs no more than one, so it changes nothing.
        seed: of initial weights, synthetic data and the choice of clients.
        workers: threads; None: one per processor. The result does not depend on it.
        engine: ``lite`` executes the .ms file; ``mindspore`` trains the same network with MindSpore.
        device_target: MindSpore's device for exporting and for the MindSpore engine.
        executor: ``local`` runs all clients here; ``ray`` spreads them over a Ray cluster, with the same result. Data
            set and work folder must have the same paths on every node; logs are written where a client runs.
        transport: how clients reach the embedded server: ``in_process``, or ``http`` over this machine's own network,
            with the same result.
        domain_name: URL of a running server to join, whoever made it. Iterations, epochs and learning rate are then
            those of its plan, and it chooses the clients of each iteration.
        cert_path, ssl_protocol, use_elb: how to reach it; see :class:`mindfl.client.HttpSettings`. With ``use_elb``
            ``server_num`` is its number of consecutive ports.
        ray_address: address of the cluster; None: the one Ray finds, else one is started here.
        converter: a ``converter_lite`` to use; see :func:`mindfl.convert.convert_model`.
        data_format: form of a synthetic data set.
        per_client_models: write ``<name>{i}.ms`` for each client; None: up to 100 clients.

    Raises :class:`OptionError` naming the argument without usable value.
    """

    work_dir: Path = field(default=Path("mindfl_work"))
    train_dataset: Path | None = None
    train_model_path: Path | None = None
    train_ms_name: str = "lenet_train"
    model: str = "lenet"
    init: str = "lecun"
    optimizer: str = "momentum"
    momentum: float = 0.9
    learning_rate: float | None = None
    client_num: int = 50
    clients_per_iteration: int | None = None
    iterations: int = 20
    epochs: int = 5
    batch_size: int = 32
    server_num: int = 1
    seed: int = 0
    workers: int | None = None
    engine: EngineName = "lite"
    device_target: str = "CPU"
    executor: ExecutorName = "local"
    ray_address: str | None = None
    transport: TransportName = "in_process"
    domain_name: str | None = None
    cert_path: Path | None = None
    ssl_protocol: str | None = None
    use_elb: bool = False
    converter: Path | None = None
    data_format: DataForm = "compact"
    per_client_models: bool | None = None

    def __post_init__(self) -> None:
        for name in ("work_dir", "train_dataset", "train_model_path", "converter", "cert_path"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, local_path(value))
        for name in ("client_num", "iterations", "epochs", "batch_size", "server_num"):
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("seed", self.seed, least=0)
        for name in ("clients_per_iteration", "workers"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), least=1)
        if self.clients_per_iteration is not None and self.clients_per_iteration > self.client_num:
            raise OptionError(f"clients_per_iteration is {self.clients_per_iteration}, above client_num")
        name = self.train_ms_name
        if not name.isprintable() or not name or "/" in name or name.startswith("."):
            raise OptionError(f"train_ms_name must be a plain file name without folder, got {name!r}")
        _check_choice("optimizer", self.optimizer, tuple(LEARNING_RATES))
        _check_choice("engine", self.engine, get_args(EngineName))
        _check_choice("executor", self.executor, get_args(ExecutorName))
        if self.executor == "ray" and self.engine != "lite":
            raise OptionError(f"executor ray runs the engine lite only, not {self.engine}")
        _check_choice("transport", self.transport, get_args(TransportName))
        if self.executor == "ray" and (self.transport != "in_process" or self.domain_name is not None):
            raise OptionError("executor ray sums on each node, so it has no use for transport and domain_name")
        self._check_server()
        _check_choice("data_format", self.data_format, get_args(DataForm))
        if not isinstance(self.rate, int | float) or not 0 < self.rate < math.inf:
            raise OptionError(f"learning_rate must be a finite number above 0, got {self.rate!r}")

    def _check_server(self) -> None:
        if self.domain_name is None:
            unused = [name for name in ("cert_path", "ssl_protocol", "use_elb") if getattr(self, name)]
            if unused:
                raise OptionError(f"{unused[0]} is given, but no domain_name", hint="--domain_name http://HOST:PORT")
            return
        if self.clients_per_iteration is not None:
            raise OptionError("the server in domain_name chooses its clients: leave clients_per_iteration out")
        self.server_settings()

    def server_settings(self) -> HttpSettings:
        """Return how to reach the server in ``domain_name``."""
        tls = TlsSettings(cert_path=self.cert_path, ssl_protocol=self.ssl_protocol)
        return HttpSettings(
            url=self.domain_name or "",
            use_elb=self.use_elb,
            server_num=self.server_num,
            tls=tls,
            connections=self.threads,
        )

    @property
    def rate(self) -> float:
        """The learning rate."""
        return LEARNING_RATES[self.optimizer] if self.learning_rate is None else self.learning_rate

    @property
    def cohort(self) -> int:
        """Clients per iteration."""
        return self.client_num if self.clients_per_iteration is None else self.clients_per_iteration

    @property
    def threads(self) -> int:
        """Worker threads."""
        return self.workers or default_workers()

    @property
    def models(self) -> Path:
        """Folder of the model files."""
        return self.train_model_path or self.work_dir / "ms"

    @property
    def writes_client_models(self) -> bool:
        """Whether each client gets a model file of its own."""
        return self.client_num <= MODEL_FILES_LIMIT if self.per_client_models is None else self.per_client_models

    def client_model(self, index: int) -> Path:
        """Return the model file of client ``index``."""
        return self.models / f"{self.train_ms_name}{index}.ms"

    def client_log(self, index: int) -> Path:
        """Return the log file of client ``index``."""
        return self.work_dir / f"client_{index}" / "client.log"


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
