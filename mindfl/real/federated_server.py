"""The real MindSpore Federated 0.1.0 server of a job, from its settings to processes that accept requests."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mindfl.errors import ProtocolError, SimulationError, StorageError, TlsError
from mindfl.files import PathLike, atomic_path, make_dir
from mindfl.locks import acquire, holder
from mindfl.notices import announce
from mindfl.real.federated_config import FederatedConfig, TlsFiles, write_config
from mindfl.real.federated_environment import Report, install
from mindfl.real.federated_processes import STOP_SECONDS, Stack, end_leftovers, holds_job, redis_entries, redis_server
from mindfl.real.federated_scheduler import FederatedState, Management
from mindfl.server.http import Address, bound_address, listen
from mindfl.spelling import checked_arguments

if TYPE_CHECKING:
    from mindfl.real.process_registry import ProcessRegistry
    from mindfl.server.start_options import Weights


#: the 0.1.0 server waits for a pause of 60 s in a thread that writes into ``data_rate_dir``
STOP_SECONDS_DATA_RATE = 75.0
#: resident memory of a server or scheduler: 0.5 GiB
PROCESS_BYTES = 1 << 29


@checked_arguments
class FederatedServer:
    """The real server of a job, with its scheduler and its Redis, as processes that end with this one.

    Args:
        work_dir: everything is written into ``federated`` in it; one stack at a time can use it.
        config: the job.
        initial_weights: float32 arrays of any shape by name.
        report: is given lines of progress; warnings begin with "warning: ". By default these are warnings of Python,
            and the rest is logged.
        registry: records the processes; None: that of ``work_dir``.

    A context manager: :meth:`start` on entering, :meth:`stop` on leaving. ``fl_name`` is the job's name on the server.

    Example:
        >>> config = FederatedConfig(  # doctest: +SKIP
        ...     fl_name="Lenet", iterations=3, clients=8, epochs=1, batch_size=32, learning_rate=0.01
        ... )
        >>> with FederatedServer("run", config, weights) as server:  # doctest: +SKIP
        ...     print(server.url)
    """

    def __init__(
        self,
        work_dir: PathLike,
        config: FederatedConfig,
        initial_weights: Weights,
        *,
        report: Report = announce,
        registry: ProcessRegistry | None = None,
    ) -> None:
        from mindfl.real.process_registry import ProcessRegistry

        self.config = config
        self.fl_name = config.fl_name
        self.folder = Path(work_dir).absolute() / "federated"
        self._weights = initial_weights
        self._report = report
        self._registry = registry or ProcessRegistry(work_dir)
        self._held = ExitStack()
        self._tls: TlsFiles | None = None
        self._addresses: Addresses | None = None
        self._management: Management | None = None
        self._stack: Stack | None = None

    def __enter__(self) -> FederatedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where devices connect: the first server, with the URL prefix."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Where devices connect: each server."""
        prefix = self.config.http_url_prefix.rstrip("/")
        return [f"{self._scheme}://{address}{prefix}" for address in self._chosen.http]

    @property
    def addresses(self) -> list[str]:
        """Host and port of each server."""
        return [str(address) for address in self._chosen.http]

    @property
    def manage_url(self) -> str:
        """Where the scheduler answers; empty without one."""
        return f"{self._scheme}://{self._chosen.manage}" if self._chosen.manage else ""

    @property
    def cert_path(self) -> Path | None:
        """The authority that devices are to trust; None without TLS."""
        return self._tls.ca_cert if self._tls else None

    @property
    def pids(self) -> dict[str, int]:
        """The processes by their role: "real redis", "real scheduler", "real server 0", ..."""
        return {process.role: process.pid for process in self._stack.processes} if self._stack else {}

    @property
    def ended(self) -> dict[int, bool]:
        """The iterations of the running instance that have ended; True: with a new model."""
        if self._stack is None:
            return {}
        self._stack.read_events()
        return dict(self._stack.ended)

    def start(self) -> None:
        """Start everything and return when devices may connect.

        Raises :class:`SimulationError` where a process fails, the machine lacks Redis or a Python, or another stack
        uses the folder; :class:`OptionError` for settings and addresses that cannot be used; and what :func:`install`
        raises. Nothing runs on then.
        """
        if self._stack is not None:
            raise SimulationError("a FederatedServer can be started once")
        with ExitStack() as held:
            self._start(held)
            self._held = held.pop_all()

    def stop(self) -> None:
        """End the servers, then the scheduler, then Redis. What has ended already is no error."""
        self._held.close()

    def check(self) -> None:
        """Raise :class:`SimulationError` with its last words where one of the processes has ended."""
        if self._stack is not None:
            self._stack.check()

    def state(self) -> FederatedState:
        """Ask the scheduler how the job is.

        Raises :class:`SimulationError` where a process has ended, :class:`TransportError` where the scheduler does not
        answer, :class:`ProtocolError` where it refuses.
        """
        self.check()
        state, nodes = self._scheduler.state()
        return FederatedState(state, nodes, max(self.ended, default=0), self.config.iterations)

    def manage(self, endpoint: str, body: object = None) -> dict[str, Any]:
        """Ask the scheduler anything; see :meth:`Management.ask`."""
        return self._scheduler.ask(endpoint, body)

    def _start(self, held: ExitStack) -> None:
        python = install(self.config.python, report=self._report)
        if self.config.redis_address is None:
            redis_server()
        held.enter_context(locked(make_dir(self.folder)))
        end_leftovers(self._registry, self._report)
        clear(self.folder)
        self._addresses = choose_addresses(self.config)
        self._warn_of_memory()
        config = self._write_files()
        stack = self._stack = Stack(self._registry, self.folder, held, python, self._tls, self.config.server_num)
        if self._addresses.redis is not None:
            self._report("starting Redis")
            stack.start_redis(self._addresses.redis)
        count = self.config.server_num
        self._report("starting the real server" if count == 1 else f"starting {count} real servers")
        await_scheduler = None
        if self._addresses.manage is not None:
            await_scheduler = stack.start_scheduler(config, self._addresses.manage)
            self._management = Management(self.manage_url, self.cert_path)
            held.callback(self._management.close)
        stack.start_servers(config, self._addresses.http, self._server_arguments(), self._stop_seconds)
        if await_scheduler is not None:
            await_scheduler(self._scheduler_answers)

    def _server_arguments(self) -> list[str]:
        checkpoints = self.config.checkpoint_dir
        # It writes none where there is no such folder.
        folder = str(Path(checkpoints).absolute()) if checkpoints else "no checkpoints"
        return [self.config.tcp_server_ip, str(self.folder / "model.npz"), folder]

    def _write_files(self) -> Path:
        """Write certificates, weights and configuration; return the latter's path."""
        entries = self.config.entries()
        self._tls = self._certificates()
        if self._tls:
            entries |= self._tls.entries()
            if self._chosen.redis is not None:
                own_certificates(self.folder / "redis" / "tls", self._chosen.redis.host)
                entries |= redis_entries(self.folder / "redis" / "tls")
        address = self.config.redis_address or str(self._chosen.redis)
        entries |= {"distributed_cache.type": "redis", "distributed_cache.address": address}
        if self.config.redis_address is not None:
            self.fl_name = entries["fl_name"] = self._name_there(address, entries)
        path = self.folder / "fl.yaml"
        write_config(path, entries)
        names = list(self._weights)
        arrays = [np.asarray(self._weights[name], np.float32) for name in names]
        with atomic_path(self.folder / "model.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, *arrays, names=np.array(names, dtype=np.str_))
        return path

    def _certificates(self) -> TlsFiles | None:
        if self.config.tls is True:
            return own_certificates(self.folder / "tls", self._chosen.http[0].host)
        return self.config.tls or None

    def _name_there(self, address: str, entries: dict[str, object]) -> str:
        """Return a name for the job that the Redis at ``address`` does not hold yet.

        A job that Redis holds goes on where it was, and one that was finished there never begins again.
        """
        name = self.config.fl_name
        if not holds_job(address, name, entries if self._tls else {}) or self.config.resume:
            return name
        fresh = f"{name}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self._report(f"warning: the Redis at {address} holds a job {name} already: this one is called {fresh} there")
        return fresh

    def _warn_of_memory(self) -> None:
        import psutil

        needed = (self.config.server_num + (self.config.manage_address is not None)) * PROCESS_BYTES
        free = psutil.virtual_memory().available
        if free < needed:
            self._report(f"warning: about {needed >> 20} MiB of memory are needed, {free >> 20} MiB are free")

    def _scheduler_answers(self) -> bool:
        try:
            return bool(self._scheduler.state()[0])
        except TlsError:
            raise
        except ProtocolError:
            return False

    @property
    def _stop_seconds(self) -> float:
        return STOP_SECONDS_DATA_RATE if self.config.settings.get("summary.data_rate_dir") else STOP_SECONDS

    @property
    def _scheduler(self) -> Management:
        if self._management is None:
            raise SimulationError("this job has no scheduler to ask", hint="give it a manage_address")
        return self._management

    @property
    def _scheme(self) -> str:
        return "https" if self.config.tls else "http"

    @property
    def _chosen(self) -> Addresses:
        if self._addresses is None:
            raise SimulationError("this server was not started")
        return self._addresses


_ANY_HOST = "0.0.0.0"


def own_certificates(folder: Path, host: str) -> TlsFiles:
    """Make an authority and certificates for ``host`` and this machine in ``folder``; the password is drawn.

    Raises :class:`OptionError` without the package cryptography, :class:`StorageError`.
    """
    from mindfl.server.certificates import LOCAL_HOSTS, make_certificates

    password = secrets.token_hex(16)
    names = dict.fromkeys([*LOCAL_HOSTS, socket.gethostname() if host == _ANY_HOST else host])
    files = make_certificates(folder, list(names), password=password, force=True)
    return TlsFiles(
        server_p12=files.server_p12,
        client_p12=files.client_p12,
        ca_cert=files.ca_cert,
        server_password=password,
        client_password=password,
    )


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each process is to listen: ``redis`` None: it runs already; ``manage`` None: no scheduler."""

    http: tuple[Address, ...]
    manage: Address | None
    redis: Address | None


def choose_addresses(config: FederatedConfig) -> Addresses:
    """Return addresses that are free now.

    Nothing holds them until the processes listen there themselves. Raises :class:`OptionError` naming one in use.
    """
    with ExitStack() as held:

        def free(text: str, option: str, count: int = 1) -> tuple[Address, ...]:
            address = Address.parse(text, option)
            # For several ports `listen` draws from those that the system does not give to clients. One of those could
            # be taken by any client in the seconds until the real server listens.
            sockets = listen(address, option, count if address.port else max(count, 2))
            for each in sockets:
                held.enter_context(closing(each))
            return tuple(Address(address.host, bound_address(each).port) for each in sockets[:count])

        http = free(config.http_address, "http_address", config.server_num)
        manage = None if config.manage_address is None else free(config.manage_address, "manage_address")[0]
        redis = free("127.0.0.1:0", "redis_address")[0] if config.redis_address is None else None
        return Addresses(http, manage, redis)


#: what a run leaves there, and the next one removes
_MADE = ("fl.yaml", "model.npz", "*.log", "redis", "scheduler", "server_*", "tls")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for one stack; raise :class:`SimulationError` where another one has it."""
    path = folder / "lock"
    lock = acquire(path)
    if lock is None:
        raise SimulationError(
            f"another real server runs in {folder.parent}: {holder(path)}",
            hint="stop it, or choose another --work_dir",
        )
    with lock:
        yield


def clear(folder: Path) -> None:
    """Remove what an earlier run left in ``folder``. Raises :class:`StorageError`."""
    try:
        for pattern in _MADE:
            for path in folder.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    except OSError as error:
        raise StorageError.from_os_error(error, "remove", error.filename or folder) from None
