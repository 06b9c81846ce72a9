"""Backends of a job: the kinds of server and of clients, and the features that each supports.

A job asks these objects instead of comparing names of options. The names are compared here, once. MindSpore Federated's
server and clients are optional: they are registered here by name and loaded when a job chooses them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from mindfl.errors import OptionError
from mindfl.options import options_of
from mindfl.options.mode_options import ModeOptions

if TYPE_CHECKING:
    from mindfl.data import Dataset
    from mindfl.real import FederatedServer
    from mindfl.real.java_device import JavaOutcome
    from mindfl.sim.config import JobConfig
    from mindfl.sim.embedded_run import Observer
    from mindfl.sim.engines import Weights
    from mindfl.sim.round_loop import Run

#: value of an option -> module and class of the backend that it chooses
_REGISTERED = {
    "federated": ("mindfl.real.backend", "RealServer"),
    "java": ("mindfl.real.backend", "JavaClientSide"),
}


class IgnoredOption(NamedTuple):
    """The options ``names`` have no effect on ``part`` of a job; ``why`` is the reason."""

    names: tuple[str, ...]
    part: str
    why: str


_THIS_JOB = "this job"
_RUNNING = "a server that runs already"
OF_RAY = IgnoredOption(("ray_address",), "--executor local", "it is for --executor ray")
_OF_REAL_SERVER = IgnoredOption(
    ("python", "redis_address"), _THIS_JOB, "it is for a server that --stack federated starts"
)
_SIMULATED = "the embedded clients"


@dataclass(frozen=True, kw_only=True)
class ServerSide:
    """The server of a job.

    Args:
        planned_here: this job sets the plan, the first model and the upload mode.
        embedded: a coordinator in this process, whose state can be saved and resumed.
        started: the job starts and stops the server's processes.
        reference: MindSpore Federated's own server.
        needs_all: reason why all clients must take part in each iteration; empty if a sampler can choose.
        ignores: options without effect on this server.
    """

    planned_here: ClassVar[bool] = True
    embedded: ClassVar[bool] = False
    started: ClassVar[bool] = False
    reference: bool = False
    needs_all: ClassVar[str] = ""
    ignores: ClassVar[tuple[IgnoredOption, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class EmbeddedServer(ServerSide):
    """A coordinator in this process."""

    embedded: ClassVar[bool] = True
    ignores: ClassVar[tuple[IgnoredOption, ...]] = (
        IgnoredOption(("server_num",), "the embedded server", "it is one, and the result is the same"),
        _OF_REAL_SERVER,
    )


@dataclass(frozen=True, kw_only=True)
class RemoteServer(ServerSide):
    """A server that runs already, at the URL in ``domain_name``."""

    planned_here: ClassVar[bool] = False
    needs_all: ClassVar[str] = "the server in domain_name chooses its clients"
    ignores: ClassVar[tuple[IgnoredOption, ...]] = (
        _OF_REAL_SERVER,
        IgnoredOption(("iterations", "epochs", "learning_rate", "lr_schedule"), _RUNNING, "its own plan counts"),
        IgnoredOption(("init", "init_from"), _RUNNING, "its own model counts"),
        IgnoredOption((*options_of(ModeOptions), "dp_budget"), _RUNNING, "its own settings count"),
    )


@dataclass(frozen=True, kw_only=True)
class StartedServer(ServerSide):
    """A server in processes that the job starts and stops; base of such backends."""

    started: ClassVar[bool] = True

    def check(self, config: JobConfig) -> None:
        """Raise :class:`OptionError` or :class:`SimulationError` where the server cannot be started."""
        raise NotImplementedError

    def make(self, config: JobConfig, weights: Weights, clients: int, report: Callable[[str], None]) -> FederatedServer:
        """Return the server, a context manager that starts and stops it.

        Args:
            config: the job.
            weights: float32 weights of the first model, by name.
            clients: number of clients in each iteration.
            report: called with lines of progress; warnings begin with "warning: ".
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """A training engine of simulated clients.

    Args:
        name: value of the option ``engine``.
        executes_files: it executes any ``.ms`` file, rather than a network of MindSpore.
        chooses_device: it trains on the device in ``device_target``; otherwise on the CPU.
        ignores: options without effect on this engine.
    """

    name: str
    executes_files: bool
    chooses_device: bool
    ignores: tuple[IgnoredOption, ...] = ()


_ENGINES = {
    "lite": EngineKind(name="lite", executes_files=True, chooses_device=False),
    "mindspore": EngineKind(
        name="mindspore",
        executes_files=False,
        chooses_device=True,
        ignores=(
            IgnoredOption(("workers",), "--engine mindspore", "it trains in one thread"),
            IgnoredOption(("operator",), "--engine mindspore", "MindSpore's own operators train"),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class ClientSide:
    """Clients that mindfl simulates in threads of this process; base class of the other kinds.

    Args:
        engine: their training engine.
        name: value of the option ``clients``.
        title: their name in the job's title.
        simulated: mindfl's own clients; their engine, samples and state are in this process or its Ray cluster.
        spread: Ray runs them on several nodes, each of which sums the uploads of its clients.
        needs_all: reason why all clients must take part in each iteration; empty if a sampler can choose.
    """

    engine: EngineKind
    name: ClassVar[Literal["embedded", "java"]] = "embedded"
    title: ClassVar[str] = "clients"
    simulated: ClassVar[bool] = True
    spread: ClassVar[bool] = False
    needs_all: ClassVar[str] = ""

    @property
    def on_cpu(self) -> str:
        """Beginning of an error that names the part that trains on the CPU only; empty if it has a choice."""
        return "" if self.engine.chooses_device else f"engine {self.engine.name} trains"

    @property
    def exchanges_parts(self) -> bool:
        """Whether the clients can exchange some of their weights only (``train_weight_name``)."""
        return self.engine.executes_files and not self.spread

    @property
    def ignores(self) -> tuple[IgnoredOption, ...]:
        """Options without effect on these clients."""
        return (
            IgnoredOption(("thread_num",), _SIMULATED, "they share the threads of --workers"),
            IgnoredOption(("cpu_bind_mode",), _SIMULATED, "the system places their threads"),
            IgnoredOption(("path_regex",), _SIMULATED, "they find their files without a list of paths"),
            IgnoredOption(
                ("jar_path", "case_jar_path", "lite_jar_path", "heap", "java", "parallel"),
                _SIMULATED,
                "it is for Java clients (--jarPath and --case_jarPath, or --clients java)",
            ),
            *self.engine.ignores,
            *(() if self.spread else (OF_RAY,)),
        )


@dataclass(frozen=True, kw_only=True)
class RayClients(ClientSide):
    """Simulated clients on the nodes of a Ray cluster."""

    spread: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ClientProcesses(ClientSide):
    """Clients that are programs of their own; base of such backends."""

    simulated: ClassVar[bool] = False

    def check(self, config: JobConfig) -> None:
        """Raise :class:`OptionError` or :class:`StorageError` where the clients cannot be started."""
        raise NotImplementedError

    def training(
        self,
        config: JobConfig,
        dataset: Dataset,
        users: Sequence[str],
        *,
        report: Callable[[str], None],
        observer: Observer,
        model: Callable[[], Weights] | None,
        valid: Mapping[int, bool],
        initial: Weights | None,
    ) -> Run:
        """Return the training of ``users``.

        Args:
            config: the job, with the URL of its server.
            dataset: the clients' data.
            users: names of the clients.
            report: called with lines of progress; warnings begin with "warning: ".
            observer: called for each upload.
            model: returns the server's latest model; None: the clients' files contain it.
            valid: whether the server aggregated an iteration, by number, as far as it is known.
            initial: the first model; None: not known.
        """
        raise NotImplementedError

    def perform(
        self, config: JobConfig, task: str, dataset: Dataset, users: Sequence[str], report: Callable[[str], None]
    ) -> list[JavaOutcome]:
        """Let the clients do another task than training; return how each ended."""
        raise NotImplementedError


def server_side(config: JobConfig) -> ServerSide:
    """Return the kind of server that the options choose."""
    federated = config.stack == "federated"
    if config.domain_name is not None:
        return RemoteServer(reference=federated)
    return _load("federated") if federated else EmbeddedServer()


def client_side(config: JobConfig) -> ClientSide:
    """Return the kind of clients that the options choose; a jar chooses Java clients too."""
    engine = _ENGINES[config.engine]
    if config.clients == "java" or (config.clients is None and config.jar_path is not None):
        side: ClientSide = _load("java", engine=engine)
        return side
    return RayClients(engine=engine) if config.executor == "ray" else ClientSide(engine=engine)


def _load(name: str, **settings: Any) -> Any:
    module, backend = _REGISTERED[name]
    return getattr(import_module(module), backend)(**settings)


def check_backends(config: JobConfig) -> None:
    """Raise :class:`OptionError` if server, clients and their options do not work together."""
    server, clients = config.server_side, config.client_side
    if config.resume and not config.resumable:
        raise OptionError(
            "resume needs the embedded server and clients: other servers and Java clients keep their own state",
            hint="choose another work_dir, or overwrite; a server that runs goes on where it is",
        )
    if config.device_target != "CPU" and clients.on_cpu:
        raise OptionError(
            f"device_target {config.device_target} is for engine mindspore: {clients.on_cpu} on the CPU",
            hint="leave it out, or choose --engine mindspore",
        )
    if config.evaluate == "central" and not clients.simulated:
        raise OptionError(
            "evaluate central does not work with Java clients: each evaluates the model on its own test data",
            hint="leave it out: AVG, TOP5 and LOW5 are those of all clients",
        )
    if config.metric not in (None, "accuracy") and not clients.simulated:
        raise OptionError(
            f"metric {config.metric} does not work with Java clients: they tell their accuracy", hint="leave it out"
        )
    if config.executor == "ray":
        _check_ray(config)
    if config.server_mode != "FEDERATED_LEARNING" and clients.simulated:
        raise OptionError(f"server_mode {config.server_mode} is for Java clients", hint="leave it out for LeNet")
    for name in ("clients_per_iteration", "sampler"):
        if getattr(config, name) is not None and (reason := clients.needs_all or server.needs_all):
            raise OptionError(f"{reason}: leave {name} out")
    if config.train_weight_name is not None and not clients.exchanges_parts:
        raise OptionError("train_weight_name works with engine lite and executor local only")
    if config.enable_ssl and not server.started:
        raise OptionError(
            "enable_ssl is for a server that the job starts: --stack federated",
            hint="for one that runs already: --domain_name https://HOST:PORT --cert_path CA",
        )


def _check_ray(config: JobConfig) -> None:
    if not config.client_side.engine.executes_files:
        raise OptionError(f"executor ray runs the engine lite only, not {config.engine}")
    if config.transport != "in_process" or not (config.server_side.embedded and config.client_side.simulated):
        raise OptionError("executor ray sums on each node, so it has no use for transport, servers and Java clients")
