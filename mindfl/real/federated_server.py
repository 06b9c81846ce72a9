"""The real MindSpore Federated 0.1.0 server of a job: started, asked for its state, stopped."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import urllib3

from mindfl.errors import ProtocolError, SimulationError, TlsError, TransportError
from mindfl.files import PathLike, atomic_path, make_dir
from mindfl.notices import announce
from mindfl.real.federated_config import Addresses, FederatedConfig, TlsFiles, write_config
from mindfl.real.federated_environment import install
from mindfl.real.federated_processes import Stack, clear, end_leftovers
from mindfl.real.federated_redis import holds_job, redis_entries, redis_server
from mindfl.real.process_registry import ProcessRegistry
from mindfl.sim.run_folder import locked
from mindfl.spelling import checked_arguments

if TYPE_CHECKING:
    from mindfl.server.start_options import Weights

#: seconds between SIGTERM and SIGKILL; the 0.1.0 server waits for a pause of 60 s in a thread that writes into
#: ``data_rate_dir``
STOP_SECONDS, STOP_SECONDS_DATA_RATE = 15.0, 75.0
#: resident memory of a server or scheduler: 0.5 GiB
PROCESS_BYTES = 1 << 29
_ANSWER_SECONDS = 10.0
_STATES = {"CLUSTER_READY": "running", "CLUSTER_DISABLE": "disabled", "CLUSTER_FINISH": "finished"}


@dataclass(frozen=True, slots=True)
class FederatedState:
    """State of a job.

    Args:
        state: "running", "disabled" or "finished".
        nodes: TCP addresses of the servers.
        completed: the latest iteration that has ended; 0: none.
        iterations: number of iterations of the job.
    """

    state: str
    nodes: tuple[str, ...]
    completed: int
    iterations: int


@checked_arguments
class FederatedServer:
    """The real server of a job, with its scheduler and its Redis, as processes that end with this one.

    A context manager: :meth:`start` on entering, :meth:`stop` on leaving. ``fl_name`` is the job's name on the server.

    Args:
        work_dir: everything is written into ``federated`` in it, which one server at a time can use.
        config: the job.
        initial_weights: float32 arrays of any shape, by name.
        report: called with lines of progress; warnings begin with "warning: ". By default warnings are Python's and
            the rest is logged.
        registry: records the processes; None: that of ``work_dir``.

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
        report: Callable[[str], None] = announce,
        registry: ProcessRegistry | None = None,
    ) -> None:
        self.config = config
        self.fl_name = config.fl_name
        self.folder = Path(work_dir).absolute() / "federated"
        self._weights = initial_weights
        self._report = report
        self._registry = registry or ProcessRegistry(work_dir)
        self._held = ExitStack()
        self._tls: TlsFiles | None = None
        self._addresses: Addresses | None = None
        self._scheduler: Scheduler | None = None
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
        """URL of the first server, with the prefix of all requests."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """URL of each server, with the prefix of all requests."""
        prefix = self.config.http_url_prefix.rstrip("/")
        return [f"{self._scheme}://{address}{prefix}" for address in self._started.http]

    @property
    def addresses(self) -> list[str]:
        """Host and port of each server."""
        return [str(address) for address in self._started.http]

    @property
    def manage_url(self) -> str:
        """URL of the scheduler; empty without one."""
        return f"{self._scheme}://{self._started.manage}" if self._started.manage else ""

    @property
    def cert_path(self) -> Path | None:
        """Certificate of the authority that clients are to trust; None without TLS."""
        return self._tls.ca_cert if self._tls else None

    @property
    def pids(self) -> dict[str, int]:
        """The processes by their role: "real redis", "real scheduler", "real server 0", ..."""
        return {process.role: process.pid for process in self._stack.processes} if self._stack else {}

    @property
    def ended(self) -> dict[int, bool]:
        """Iterations of the running instance that have ended; True: with a new model."""
        if self._stack is None:
            return {}
        self._stack.read_events()
        return dict(self._stack.ended)

    def start(self) -> None:
        """Start everything and return when clients can connect.

        Raises:
            SimulationError: a process fails, the machine lacks Redis or a Python, or another server uses the folder.
            OptionError: a setting or an address cannot be used.
            MindflError: see :func:`mindfl.real.install`. Nothing runs after an error.
        """
        if self._stack is not None:
            raise SimulationError("a FederatedServer can be started once")
        with ExitStack() as held:
            self._start(held)
            self._held = held.pop_all()

    def stop(self) -> None:
        """Stop the servers, then the scheduler, then Redis. Processes that have ended are skipped."""
        self._held.close()

    def check(self) -> None:
        """Raise :class:`SimulationError`, with the reason in its log, if a process has ended."""
        if self._stack is not None:
            self._stack.check()

    def state(self) -> FederatedState:
        """Ask the scheduler for the state of the job.

        Raises:
            SimulationError: a process has ended.
            TransportError: the scheduler does not answer.
            ProtocolError: the scheduler refuses.
        """
        self.check()
        state, nodes = self._asked.state()
        return FederatedState(state, nodes, max(self.ended, default=0), self.config.iterations)

    def manage(self, endpoint: str, body: object = None) -> dict[str, Any]:
        """Send a request to the scheduler; see :meth:`Scheduler.ask`."""
        return self._asked.ask(endpoint, body)

    def _start(self, held: ExitStack) -> None:
        python = install(self.config.python, report=self._report)
        if self.config.redis_address is None:
            redis_server()
        held.enter_context(locked(make_dir(self.folder)))
        end_leftovers(self._registry, self._report)
        clear(self.folder)
        addresses = self._addresses = Addresses.chosen(self.config)
        self._warn_of_memory()
        config = self._write_files(addresses)
        stack = self._stack = Stack(self._registry, self.folder, held, python, self._tls, self.config.server_num)
        if addresses.redis is not None:
            self._report("starting Redis")
            stack.start_redis(addresses.redis, STOP_SECONDS)
        count = self.config.server_num
        self._report("starting the real server" if count == 1 else f"starting {count} real servers")
        if addresses.manage is not None:
            stack.start_scheduler(config, addresses.manage, STOP_SECONDS)
            self._scheduler = Scheduler(self.manage_url, self.cert_path)
            held.callback(self._scheduler.close)
        stop = STOP_SECONDS_DATA_RATE if self.config.settings.get("summary.data_rate_dir") else STOP_SECONDS
        stack.start_servers(config, addresses.http, self._server_arguments(), stop)
        if self._scheduler is not None:
            stack.await_scheduler(self._scheduler.answers)

    def _server_arguments(self) -> list[str]:
        checkpoints = self.config.checkpoint_dir
        # If there is no such folder the server writes no checkpoints.
        folder = str(Path(checkpoints).absolute()) if checkpoints else "no checkpoints"
        return [self.config.tcp_server_ip, str(self.folder / "model.npz"), folder]

    def _write_files(self, addresses: Addresses) -> Path:
        """Write certificates, weights and configuration; return the path of the configuration."""
        entries = self.config.entries()
        if self.config.tls is True:
            self._tls = TlsFiles.generated(self.folder / "tls", addresses.http[0].host)
        else:
            self._tls = self.config.tls or None
        if self._tls:
            entries |= self._tls.entries()
            if addresses.redis is not None:
                TlsFiles.generated(self.folder / "redis" / "tls", addresses.redis.host)
                entries |= redis_entries(self.folder / "redis" / "tls")
        address = self.config.redis_address or str(addresses.redis)
        entries |= {"distributed_cache.type": "redis", "distributed_cache.address": address}
        if self.config.redis_address is not None:
            self.fl_name = entries["fl_name"] = self._unused_name(address, entries)
        path = self.folder / "fl.yaml"
        write_config(path, entries)
        names = list(self._weights)
        arrays = [np.asarray(self._weights[name], np.float32) for name in names]
        with atomic_path(self.folder / "model.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, *arrays, names=np.array(names, dtype=np.str_))
        return path

    def _unused_name(self, address: str, entries: dict[str, object]) -> str:
        """Return a name for the job that the Redis at ``address`` does not contain yet.

        A job in Redis continues, and one that was finished there never begins again.
        """
        name = self.config.fl_name
        if self.config.resume or not holds_job(address, name, entries if self._tls else {}):
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

    @property
    def _asked(self) -> Scheduler:
        if self._scheduler is None:
            raise SimulationError("this job has no scheduler to ask", hint="give it a manage_address")
        return self._scheduler

    @property
    def _scheme(self) -> str:
        return "https" if self.config.tls else "http"

    @property
    def _started(self) -> Addresses:
        if self._addresses is None:
            raise SimulationError("this server was not started")
        return self._addresses


class Scheduler:
    """Client of the scheduler's management interface.

    Args:
        url: its URL.
        ca_cert: certificate of the authority to trust where that is https.
    """

    def __init__(self, url: str, ca_cert: Path | None) -> None:
        self._url = url
        authority = str(ca_cert) if ca_cert else None
        self._pool = urllib3.PoolManager(retries=False, timeout=_ANSWER_SECONDS, ca_certs=authority)

    def state(self) -> tuple[str, tuple[str, ...]]:
        """Return the cluster's state, as in :class:`FederatedState`, and its nodes."""
        answer = self.ask("state")
        nodes = tuple(str(node.get("tcp_address", "")) for node in answer.get("nodes", ()))
        name = str(answer.get("cluster_state", ""))
        return _STATES.get(name, name), nodes

    def answers(self) -> bool:
        """Return whether the scheduler answers with a state. Raises :class:`TlsError`."""
        try:
            return bool(self.state()[0])
        except TlsError:
            raise
        except ProtocolError:
            return False

    def ask(self, endpoint: str, body: object = None) -> dict[str, Any]:
        """Return the answer of ``state``, ``queryInstance``, ``enableFLS``, ``disableFLS`` or ``newInstance``.

        Raises:
            ProtocolError: the scheduler refuses; the message quotes it.
            TransportError: the scheduler does not answer.
        """
        content = None if body is None else json.dumps(body).encode()
        try:
            response = self._pool.request("POST", f"{self._url}/{endpoint}", body=content)
            answer = json.loads(response.data)
            if not isinstance(answer, dict):
                raise ValueError(answer)
        except urllib3.exceptions.SSLError as error:
            raise TlsError(f"the certificate of the scheduler at {self._url} is not accepted: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise TransportError(f"the scheduler at {self._url} does not answer: {error}") from None
        except ValueError:
            raise ProtocolError(f"the scheduler at {self._url} answered {endpoint} with no JSON object") from None
        if response.status != 200:
            raise ProtocolError(f"the scheduler refused {endpoint}: {answer.get('error_message', response.status)}")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
