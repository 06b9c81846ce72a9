"""A server process: reads the settings, opens the job and the sockets, serves, and releases everything."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import reduce
from signal import Signals
from typing import TYPE_CHECKING

from mindfl.errors import StorageError
from mindfl.imports import require
from mindfl.modes import MODES
from mindfl.server.aggregate import initial_model
from mindfl.server.cluster.store import InternalTls, ListNodes, Membership, find_store, leader_tls
from mindfl.server.coordinator import Coordinator
from mindfl.server.durable import DurableJob
from mindfl.server.http import Address, Job, SingleServer, VolatileJob, allow_many_connections, bound_address, listen
from mindfl.server.http.service import Counted
from mindfl.server.iteration import Clock, IterationRecord
from mindfl.server.management import Management, ServerNode
from mindfl.server.opening import JobOpener
from mindfl.server.reports import ServerReporter, Sink
from mindfl.server.running import Registration, RunningServer, StopSignal, stop_signal
from mindfl.server.server_tls import ServerTls, load_tls
from mindfl.server.settings import JobSettings, read_settings, require_supported, with_overrides, within_budget
from mindfl.server.snapshot import features, fingerprint
from mindfl.server.start_options import ServerOptions, unused_options
from mindfl.server.state import JobProgress
from mindfl.server.storage import Memory, Storage
from mindfl.server.summary_files import DataRate, FailureEventFile, MetricsFile, counted_by, uncounted
from mindfl.spelling import counted

if TYPE_CHECKING:
    from mindfl.live.server_rows import ServerRows
    from mindfl.server.cluster.member import Member

_OBJECTS = 50_000


def run_server(options: ServerOptions, *, ready: Callable[[str], None], tell: Callable[[str], None]) -> Signals:
    """Serve the job until SIGTERM or SIGINT, finish the requests in flight, and return the signal.

    ``ready`` is given the URL once requests are accepted, ``tell`` lines of progress; if it raises ``OSError``,
    because its pipe is closed, the job continues. Raises :class:`OptionError` for settings and addresses that cannot be
    used, :class:`StorageError` for files and folders that cannot, and where uploads can no longer be stored.
    """
    tell = _if_read(tell)
    settings = read_settings(options.config, options.overrides)
    require_supported(settings)
    _check_packages(options, settings)
    for warning in (*settings.warnings, *unused_options(options, settings)):
        tell(f"warning: {warning}")
    if options.dp_budget is not None:
        settings = within_budget(settings, options.dp_budget, tell)
    config = settings.server_config()
    for warning in config.mode.weaknesses(config):
        tell(f"warning: {warning}")
    for line in config.mode.protection(config):
        tell(line)
    prefix = settings.client.http_url_prefix
    if prefix and not prefix.startswith("/"):
        tell(f"warning: http_url_prefix {prefix!r} does not begin with a slash: no device can reach such a path")
    with stop_signal() as stopping, ExitStack() as stack, _collecting_rarely():
        return asyncio.run(_Server(options, settings, stack, tell).run(ready, stopping))


def _check_packages(options: ServerOptions, settings: JobSettings) -> None:
    if MODES[settings.encrypt.encrypt_type].masked:
        require(f"encrypt_type {settings.encrypt.encrypt_type}", "cryptography")
    if settings.enable_ssl:
        require("serving TLS", "cryptography")
    if options.cluster:
        require("--cluster", "redis")


def _if_read(tell: Callable[[str], None]) -> Callable[[str], None]:
    def told(text: str) -> None:
        with suppress(OSError):
            tell(text)

    return told


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Collect garbage after more new objects than usual: with thousands of connections it takes long."""
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class _Server:
    """The resources of a server; ``stack`` releases them."""

    def __init__(
        self, options: ServerOptions, settings: JobSettings, stack: ExitStack, tell: Callable[[str], None]
    ) -> None:
        self._options = options
        self._settings = settings
        self._stack = stack
        self._tell = tell
        self._clock = Clock()
        # Released last: the next server may want the address and the folder of one that has stopped at once.
        self._registration: Registration | None = None
        stack.callback(self._unregister)
        self._tls = self._load_tls()
        self._opener = JobOpener(options, settings, self._clock, tell)
        allow_many_connections()
        address = Address.parse(options.http_server_address, "--http_server_address")
        self._sockets = listen(address, "--http_server_address", options.server_num)
        stack.callback(_close, self._sockets)
        self._manage_sockets: list[socket.socket] = []
        if options.manage_address is not None:
            self._manage_sockets = listen(Address.parse(options.manage_address, "--manage_address"), "--manage_address")
            stack.callback(_close, self._manage_sockets)
        self._serving: SingleServer | Member | None = None
        self._is_started = False
        self._live = self._open_page() if options.live else None
        self._opener.begin_after_checkpoint()
        self._metrics, events = self._open_files()
        self._counted = self._count_bytes()
        self._files = ServerReporter([self._metrics, events])
        stack.callback(self._files.close)
        self._checkpoints = self._opener.checkpoint_writer()
        own: list[Sink] = [each for each in (self._checkpoints, self._live) if each is not None]
        self._reporter = ServerReporter([self._tell_iteration, self._register_iteration, *own, self._call_hook])
        stack.callback(self._reporter.close)
        # Hooks hear of the start before they hear of iterations, also of those that end while a journal is replayed.
        self._begun = threading.Event()
        self._reporter.then(self._begin)
        stack.callback(self._begun.set)

    async def run(self, ready: Callable[[str], None], stop: StopSignal) -> Signals:
        """Serve until a signal comes."""
        self._serving = serving = self._member() if self._options.cluster else self._single()
        stopping = stop.future()
        starting = asyncio.create_task(serving.start(self._sockets, self._manage_sockets, self._tls))
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._started(serving.progress, ready)
                await asyncio.wait((stopping, serving.failure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            starting.cancel()
            await serving.stop()
        if serving.failure.done():
            raise serving.failure.result()
        return stopping.result()

    def _started(self, progress: JobProgress, ready: Callable[[str], None]) -> None:
        self._register(progress)
        if self._manage_sockets:
            self._tell(f"management at {self._url(self._manage_sockets[0], '')}")
        ready(self._url(self._sockets[0], self._settings.client.http_url_prefix))
        if self._options.hooks:
            # Not before the iterations reported by then.
            self._stack.callback(self._reporter.then, self._options.hooks.before_stopped)
        self._is_started = True
        self._begun.set()

    def _begin(self) -> None:
        self._begun.wait()
        if self._options.hooks and self._is_started:
            self._options.hooks.after_started()

    def _call_hook(self, record: IterationRecord) -> None:
        if self._options.hooks and self._is_started:
            path = self._checkpoints.last_path if self._checkpoints else None
            self._options.hooks.iteration_ended(record, path)

    def _open_files(self) -> tuple[MetricsFile, FailureEventFile]:
        """Return the writers of metrics and failure events."""
        settings, summary = self._settings, self._settings.summary
        metrics = MetricsFile(
            summary.metrics_file,
            fl_name=settings.fl_name,
            fl_iteration_num=settings.fl_iteration_num,
            instance_name=self._opener.instance,
            time_level=summary.participation_time_level,
        )
        address = str(bound_address(self._sockets[0]))
        events = FailureEventFile(
            summary.failure_event_file, address=address, failure_times=summary.continuous_failure_times
        )
        return metrics, events

    def _open_page(self) -> ServerRows:
        """Serve the live page, in a process of its own; return the writer of what it shows."""
        from mindfl.live.beside import page_beside
        from mindfl.live.server_rows import ServerRows, live_folder

        settings, client = self._settings, self._settings.client
        facts = {
            "algorithm": str(self._options.algorithm),
            "clients_per_iteration": settings.round.start_fl_job_threshold,
            "epochs": client.client_epoch_num,
            "batch_size": client.client_batch_size,
            "learning_rate": client.client_learning_rate,
            "encrypt_type": settings.encrypt.encrypt_type,
        }
        folder = live_folder(settings.fl_name)
        rows = ServerRows(folder, f"{settings.fl_name}, served at {bound_address(self._sockets[0])}", facts)
        self._stack.enter_context(page_beside(folder, self._options.live_port, self._tell))
        self._stack.callback(rows.close)
        return rows

    def _count_bytes(self) -> Counted:
        """Return the wrapper that counts the bytes of messages, if the settings or the live page ask for it."""
        folder = self._settings.summary.data_rate_dir
        counts = [uncounted if self._live is None else counted_by(self._live)]
        if folder:
            rate = DataRate(folder, str(bound_address(self._sockets[0])))
            self._stack.callback(rate.close)
            counts.append(counted_by(rate))
        return lambda front: reduce(lambda answer, count: count(answer), counts, front)

    def _single(self) -> SingleServer:
        job: Job
        if self._options.journal:
            job = durable = self._open(None, self._ended)
            self._stack.callback(durable.close)
        else:
            job = VolatileJob(self._opener.volatile(self._ended))
        nodes = self._nodes()
        management = self._manage(job, lambda: nodes)
        return SingleServer(
            job,
            management,
            prefix=self._settings.client.http_url_prefix,
            clock=self._clock,
            counted=self._counted,
            most_connections=self._most_connections,
        )

    def _member(self) -> Member:
        from mindfl.server.cluster.member import Member

        layout, model = initial_model(self._opener.weights)
        return Member(
            find_store(self._settings),
            Membership(
                fl_name=self._settings.fl_name,
                layout=layout,
                features=features(layout, self._options.constant),
                config=self._settings.server_config(),
                model=fingerprint(model) if self._opener.first_iteration == 1 else "",
                prefix=self._settings.client.http_url_prefix,
                clock=self._clock,
                nodes=self._nodes(),
                internal_host=self._options.tcp_server_ip,
                internal_tls=self._internal_tls(),
                counted=self._counted,
                most_connections=self._most_connections,
                report=self._reporter,
                open_job=self._open,
                manage=self._manage,
                write_files=self._files,
            ),
        )

    @property
    def _most_connections(self) -> int:
        return self._settings.client.connection_num * len(self._sockets)

    def _open(self, storage: Storage | None, ended: Sink, memory: Memory | None = None) -> DurableJob:
        job = self._opener.durable(storage, ended, memory)
        self._renewed(job.coordinator.job.instance, job.coordinator.config.fl_iteration_num)
        return job

    def _ended(self, record: IterationRecord) -> None:
        self._files(record)
        self._reporter(record)

    def _manage(self, job: Job, nodes: ListNodes) -> Management:
        settings = _as_running(self._settings, job.coordinator)
        if self._live is not None:
            self._live.follow(job.coordinator)
        again = self._options.dp_budget is None
        return Management(
            job.coordinator,
            settings,
            nodes,
            clock=self._clock,
            renewed=self._renewed,
            changed=lambda: self._reporter.then(self._update_registration),
            renewable=again,
        )

    def _renewed(self, instance: str, iterations: int) -> None:
        """Name the instance in the metrics of the iterations to come."""

        def rename() -> None:
            self._metrics.instance_name = instance
            self._metrics.fl_iteration_num = iterations

        self._files.then(rename)

    def _internal_tls(self) -> InternalTls | None:
        tls, others = ServerTls.from_settings(self._settings, self._options.password), leader_tls(self._settings)
        if tls is None or others is None:
            return None
        return InternalTls(load_tls(replace(tls, key=self._options.server_key_path)).context, others)

    def _load_tls(self) -> ssl.SSLContext | None:
        options = self._options
        tls = ServerTls.from_settings(self._settings, options.password)
        if tls is None:
            return None
        required = options.require_client_certificate
        loaded = load_tls(replace(tls, key=options.server_key_path, require_client_certificate=required))
        if loaded.warning:
            self._tell(f"warning: {loaded.warning}")
        return loaded.context

    def _register(self, progress: JobProgress) -> None:
        """Register this process for ``mindfl server status`` and ``stop``; the server runs without that too."""
        try:
            self._registration = Registration(
                RunningServer(
                    pid=os.getpid(),
                    address=str(bound_address(self._sockets[0])),
                    url=self._url(self._sockets[0], self._settings.client.http_url_prefix),
                    manage_url=self._url(self._manage_sockets[0], "") if self._manage_sockets else "",
                    fl_name=self._settings.fl_name,
                    **asdict(progress),
                )
            )
        except StorageError as error:
            self._tell(f"warning: `mindfl server stop` and `status` will not find this server: {error}")

    def _unregister(self) -> None:
        if self._registration is not None:
            self._registration.close()
            self._registration = None

    def _register_iteration(self, record: IterationRecord) -> None:
        self._update_registration()

    def _update_registration(self) -> None:
        if self._registration is not None and self._serving is not None:
            self._registration.update(**asdict(self._serving.progress))

    def _tell_iteration(self, record: IterationRecord) -> None:
        seconds = (record.end_ms - (record.end_ms if record.start_ms is None else record.start_ms)) / 1000
        if record.valid:
            self._tell(
                f"iteration {record.iteration}: {counted(record.uploads, 'client')}, loss {record.loss:.4f},"
                f" accuracy {record.accuracy:.4f}, {seconds:.1f} s"
            )
        else:
            self._tell(
                f"iteration {record.iteration} failed: {counted(record.started, 'client')} started, "
                f"{record.uploads} uploaded,"
                f" {seconds:.1f} s: {record.reason}"
            )

    def _nodes(self) -> list[ServerNode]:
        now = datetime.now(timezone.utc).astimezone()
        return [ServerNode.begun(str(bound_address(listening)), now) for listening in self._sockets]

    def _url(self, listening: socket.socket, prefix: str) -> str:
        """Return the URL for a client, which appends a slash and the endpoint's name."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{bound_address(listening)}{prefix.rstrip('/')}"


def _as_running(settings: JobSettings, coordinator: Coordinator) -> JobSettings:
    """Return ``settings`` as the job has them, which another instance may have changed before a restart."""
    if coordinator.config == settings.server_config():
        return settings
    return with_overrides(settings, asdict(coordinator.config))


def _close(sockets: list[socket.socket]) -> None:
    for listening in sockets:
        listening.close()
