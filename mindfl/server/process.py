"""A server process: from its settings to listening sockets, and in good order back to nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mindfl.errors import StorageError
from mindfl.files import PathLike, make_dir
from mindfl.server.aggregate import initial_model
from mindfl.server.checkpoint import CheckpointWriter, latest
from mindfl.server.clock import Clock
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import DurableJob
from mindfl.server.http import (
    Address,
    HttpService,
    Job,
    ManagementFront,
    VolatileJob,
    allow_many_connections,
    bound_address,
    listen,
)
from mindfl.server.initial import initial_weights
from mindfl.server.iteration import IterationRecord
from mindfl.server.management import Management, Node, instance_name
from mindfl.server.metrics_file import FailureEventFile, MetricsFile
from mindfl.server.registry import Registration, RunningServer
from mindfl.server.reporter import Reporter, Sink
from mindfl.server.settings import JobSettings, read_settings, require_supported, with_overrides
from mindfl.server.state import JobState
from mindfl.server.tls import ServerTls, load_tls

_Weights: TypeAlias = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What ``mindfl server start`` was told.

    ``overrides`` are settings by name that count instead of the file's. ``http_server_address`` is the first of
    ``server_num`` consecutive ports. ``state_dir`` None stands for a folder named after the job; it is not used where
    ``journal`` is False. ``password`` belongs to the server's key, which ``server_key_path`` holds where the file of a
    PEM certificate does not.
    """

    config: PathLike
    model: PathLike
    http_server_address: str = "127.0.0.1:6668"
    manage_address: str | None = None
    checkpoint_dir: PathLike | None = None
    state_dir: PathLike | None = None
    journal: bool = True
    server_num: int = 1
    server_key_path: PathLike | None = None
    password: str | None = None
    require_client_certificate: bool = False
    overrides: Mapping[str, object] = field(default_factory=dict)


def run_server(options: ServerOptions, *, ready: Callable[[str], None], tell: Callable[[str], None]) -> signal.Signals:
    """Serve the job until SIGTERM or SIGINT, finish what is in flight, and return the signal.

    ``ready`` is given the URL once requests are accepted, ``tell`` lines of progress. Raises :class:`OptionError` for
    settings and addresses that cannot be used, :class:`StorageError` for files and folders that cannot, and where what
    devices send can no longer be stored.
    """
    settings = read_settings(options.config, options.overrides)
    require_supported(settings)
    for warning in settings.warnings:
        tell(f"warning: {warning}")
    prefix = settings.client.http_url_prefix
    if prefix and not prefix.startswith("/"):
        tell(f"warning: http_url_prefix {prefix!r} does not begin with a slash: no device can reach such a path")
    with ExitStack() as stack:
        return asyncio.run(_Server(options, settings, stack, tell).run(ready))


class _Server:
    """Everything that a server holds on to; ``stack`` lets go of it."""

    def __init__(
        self, options: ServerOptions, settings: JobSettings, stack: ExitStack, tell: Callable[[str], None]
    ) -> None:
        self._tell = tell
        self._tls = self._load_tls(options, settings)
        weights = initial_weights(options.model)
        allow_many_connections()
        address = Address.parse(options.http_server_address, "--http_server_address")
        self._sockets = listen(address, "--http_server_address", options.server_num)
        stack.callback(_close, self._sockets)
        self._manage_sockets: list[socket.socket] = []
        if options.manage_address is not None:
            self._manage_sockets = listen(Address.parse(options.manage_address, "--manage_address"), "--manage_address")
            stack.callback(_close, self._manage_sockets)
        self._registration: Registration | None = None
        self._clock = Clock()
        self._instance = instance_name(datetime.now(timezone.utc).astimezone())
        self._metrics, files = self._files(options, settings, weights)
        self._reporter = Reporter([self._tell_iteration, self._register_iteration, *files])
        stack.callback(self._reporter.close)
        self._job = self._open_job(options, settings, weights, stack)
        self._settings = _as_running(settings, self._job.coordinator)
        self._register(options, stack)

    async def run(self, ready: Callable[[str], None]) -> signal.Signals:
        """Serve until a signal comes."""
        loop = asyncio.get_running_loop()
        stopping: asyncio.Future[signal.Signals] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _settle, stopping, number)
        service = HttpService(self._job, prefix=self._settings.client.http_url_prefix, clock=self._clock)
        try:
            await service.start(self._sockets, self._tls)
            if self._manage_sockets:
                management = Management(
                    self._job.coordinator, self._settings, self._nodes(), clock=self._clock, renewed=self._renewed
                )
                await service.serve(ManagementFront(management, service.workers), self._manage_sockets, self._tls)
                self._tell(f"management at {self._url(self._manage_sockets[0], '')}")
            ready(self._url(self._sockets[0], self._settings.client.http_url_prefix))
            await asyncio.wait((stopping, service.workers.failure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await service.stop()
        if service.workers.failure.done():
            raise service.workers.failure.result()
        return stopping.result()

    def _files(
        self, options: ServerOptions, settings: JobSettings, weights: _Weights
    ) -> tuple[MetricsFile, list[Sink]]:
        """Return what writes the files that the settings ask for."""
        summary, address = settings.summary, str(bound_address(self._sockets[0]))
        if summary.data_rate_dir:
            self._tell("warning: data_rate_dir: the bytes of each minute are not written yet")
        metrics = MetricsFile(
            summary.metrics_file,
            fl_name=settings.fl_name,
            fl_iteration_num=settings.fl_iteration_num,
            instance_name=self._instance,
            time_level=summary.participation_time_level,
        )
        events = FailureEventFile(
            summary.failure_event_file, address=address, failure_times=summary.continuous_failure_times
        )
        folder = _checkpoint_dir(options, settings)
        if folder is None:
            return metrics, [metrics, events]
        shapes = {name: values.shape for name, values in weights.items()}
        return metrics, [metrics, events, CheckpointWriter(make_dir(folder), settings.fl_name, shapes)]

    def _open_job(self, options: ServerOptions, settings: JobSettings, weights: _Weights, stack: ExitStack) -> Job:
        if not options.journal:
            return VolatileJob(self._from_checkpoint(options, settings, weights))
        folder = Path(options.state_dir or re.sub(r"[^\w.-]+", "_", settings.fl_name) + "_state")
        job = DurableJob(
            folder,
            settings.server_config(),
            weights,
            clock=self._clock,
            on_iteration_end=self._reporter,
            instance=self._instance,
        )
        stack.callback(job.close)
        self._renewed(job.coordinator.instance, job.coordinator.config.fl_iteration_num)
        if job.recovery.events or job.coordinator.iteration > 1:
            self._tell(
                f"the job in {folder} goes on with iteration {job.coordinator.iteration}: {job.recovery.uploads} of"
                f" its uploads were read back in {job.recovery.seconds:.1f} s"
            )
        return job

    def _from_checkpoint(self, options: ServerOptions, settings: JobSettings, weights: _Weights) -> Coordinator:
        """Return a coordinator that begins, as the reference's, after the newest checkpoint if there is one."""
        config, folder = settings.server_config(), _checkpoint_dir(options, settings)
        found = None if folder is None else latest(folder, settings.fl_name)
        state = None
        if found is not None:
            self._tell(f"iterations 1 to {found.iteration} are done: {found.path} is loaded")
            _, model = initial_model(found.weights)
            state = JobState(config, self._instance, found.iteration + 1, True, None, {found.iteration: model})
        return Coordinator(config, weights, on_iteration_end=self._reporter, wall=self._clock.wall_ms, state=state)

    def _renewed(self, instance: str, iterations: int) -> None:
        """Name the instance in the metrics of the iterations to come."""

        def rename() -> None:
            self._metrics.instance_name = instance
            self._metrics.fl_iteration_num = iterations

        self._reporter.then(rename)

    def _load_tls(self, options: ServerOptions, settings: JobSettings) -> ssl.SSLContext | None:
        tls = ServerTls.from_settings(settings, options.password)
        if tls is None:
            return None
        required = options.require_client_certificate
        loaded = load_tls(replace(tls, key=options.server_key_path, require_client_certificate=required))
        if loaded.warning:
            self._tell(f"warning: {loaded.warning}")
        return loaded.context

    def _register(self, options: ServerOptions, stack: ExitStack) -> None:
        """Let ``mindfl server status`` and ``stop`` find this process; a server that cannot be found still serves."""
        coordinator = self._job.coordinator
        try:
            self._registration = Registration(
                RunningServer(
                    pid=os.getpid(),
                    address=str(bound_address(self._sockets[0])),
                    url=self._url(self._sockets[0], self._settings.client.http_url_prefix),
                    manage_url=self._url(self._manage_sockets[0], "") if self._manage_sockets else "",
                    fl_name=self._settings.fl_name,
                    state=coordinator.state.value,
                    iteration=coordinator.iteration,
                    iterations=coordinator.config.fl_iteration_num,
                )
            )
        except StorageError as error:
            self._tell(f"warning: `mindfl server stop` and `status` will not find this server: {error}")
        else:
            stack.callback(self._registration.close)

    def _register_iteration(self, record: IterationRecord) -> None:
        if self._registration is not None:
            coordinator = self._job.coordinator
            self._registration.update(
                state=coordinator.state.value,
                iteration=coordinator.iteration,
                iterations=coordinator.config.fl_iteration_num,
            )

    def _tell_iteration(self, record: IterationRecord) -> None:
        seconds = (record.end_ms - (record.end_ms if record.start_ms is None else record.start_ms)) / 1000
        if record.valid:
            self._tell(
                f"iteration {record.iteration}: {record.uploads} clients, loss {record.loss:.4f},"
                f" accuracy {record.accuracy:.4f}, {seconds:.1f} s"
            )
        else:
            self._tell(
                f"iteration {record.iteration} failed: {record.started} clients started, {record.uploads} uploaded,"
                f" {seconds:.1f} s: {record.reason}"
            )

    def _nodes(self) -> list[Node]:
        return [Node(str(uuid.uuid4()), str(bound_address(listening))) for listening in self._sockets]

    def _url(self, listening: socket.socket, prefix: str) -> str:
        """Return what a device is told: it puts a slash and the endpoint's name behind it."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{bound_address(listening)}{prefix.rstrip('/')}"


def _checkpoint_dir(options: ServerOptions, settings: JobSettings) -> PathLike | None:
    return options.checkpoint_dir or settings.checkpoint_dir or None


def _as_running(settings: JobSettings, coordinator: Coordinator) -> JobSettings:
    """Return ``settings`` as the job has them, which another instance may have changed before a restart."""
    if coordinator.config == settings.server_config():
        return settings
    return with_overrides(settings, asdict(coordinator.config))


def _settle(stopping: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    """End in good order; a second signal ends at once."""
    if stopping.done():
        os._exit(128 + number)
    stopping.set_result(number)


def _close(sockets: list[socket.socket]) -> None:
    for listening in sockets:
        listening.close()
