"""``mindfl server start --stack federated``: runs the real server until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from mindfl.errors import ProtocolError, StorageError
from mindfl.files import PathLike
from mindfl.options.declaration import same_option
from mindfl.options.server_options import CommonStartOptions, FederatedStartOptions
from mindfl.real.federated_config import FederatedConfig, TlsFiles
from mindfl.real.federated_server import FederatedServer
from mindfl.server.http import Address
from mindfl.server.initial import device_weights, four_dimensional, unknown_order
from mindfl.server.running import Registration, RunningServer
from mindfl.server.settings import JobSettings, read_settings
from mindfl.server.start_options import unused_password
from mindfl.spelling import checked_arguments

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 2.0

Tell = Callable[[str], None]


@checked_arguments
@dataclass(frozen=True, kw_only=True)
class FederatedOptions(FederatedStartOptions, CommonStartOptions):
    """Options of ``mindfl server start --stack federated``, as declared in :mod:`mindfl.options.server_options`.

    Args:
        password: password of both PKCS#12 files.
        overrides: settings by name that replace those of the file.
    """

    model: PathLike = same_option(CommonStartOptions, "model")
    password: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)


def serve_federated(options: FederatedOptions, *, ready: Tell, tell: Tell) -> signal.Signals:
    """Serve the job until SIGTERM or SIGINT, stop all processes, and return the signal.

    Args:
        options: what the command line was given.
        ready: called with the URL once requests are accepted.
        tell: called with lines of progress.

    Raises:
        SimulationError: a process cannot be started, or ends by itself.
        MindflError: see :meth:`FederatedServer.start`.
    """
    settings = read_settings(options.config, options.overrides)
    for warning in (*settings.warnings, *unused_password(options.password, settings)):
        tell(f"warning: {warning}")
    config = _config(options, settings, tell)
    model = device_weights(options.model)
    if model.filters is None:
        tell(unknown_order(options.model, four_dimensional(model.arrays)))
    server = FederatedServer(options.work_dir, config, model.arrays, report=tell)
    # The record is released last: the address is free by then for the next server.
    with _signals() as received, ExitStack() as record:
        with suppress(KeyboardInterrupt), server:
            tell(f"management at {server.manage_url}; logs are in {server.folder}")
            update = record.enter_context(_registered(server, tell))
            ready(server.url)
            _follow(server, update, tell)
        return received[0]


def _config(options: FederatedOptions, settings: JobSettings, tell: Tell) -> FederatedConfig:
    tls: TlsFiles | bool = False
    if settings.enable_ssl:
        password = options.password or ""
        tls = TlsFiles(
            server_p12=Path(settings.ssl.server_cert_path),
            client_p12=Path(settings.ssl.client_cert_path),
            ca_cert=Path(settings.ssl.ca_cert_path),
            server_password=password,
            client_password=password,
            cipher_list=settings.ssl.cipher_list,
        )
    checkpoint_dir = options.checkpoint_dir or settings.checkpoint_dir
    return FederatedConfig.from_settings(
        settings,
        tls=tls,
        server_num=options.server_num,
        http_address=options.http_server_address,
        manage_address=options.manage_address or "127.0.0.1:0",
        redis_address=options.redis_address or _answering_redis(settings, tell),
        resume=options.resume,
        tcp_server_ip=options.tcp_server_ip,
        checkpoint_dir=Path(checkpoint_dir) if checkpoint_dir else None,
        python=options.python,
    )


def _answering_redis(settings: JobSettings, tell: Tell) -> str | None:
    """Return the address of the settings' Redis if it accepts connections."""
    if settings.distributed_cache.type != "redis":
        return None
    text = settings.distributed_cache.address
    address = Address.parse(text, settings.origin.place("distributed_cache.address"))
    try:
        socket.create_connection((address.host, address.port), _ANSWER_SECONDS).close()
    except OSError:
        tell(f"the Redis at {text}, the file's distributed_cache.address, does not answer: one is started for this run")
        return None
    return text


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Raise ``KeyboardInterrupt`` at the first signal, and yield a list that then contains it.

    A second signal ends this process at once. Ignored signals stay ignored.
    """
    received: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            # The server's processes end when this one has ended.
            os._exit(128 + number)
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    previous = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _registered(server: FederatedServer, tell: Tell) -> Iterator[Callable[[str], None]]:
    """Register this process for ``mindfl server status`` and ``stop``; yield a function that updates the state."""
    record = RunningServer(
        pid=os.getpid(),
        address=server.addresses[0],
        url=server.url,
        manage_url=server.manage_url,
        fl_name=server.fl_name,
        state="running",
        iteration=1,
        iterations=server.config.iterations,
    )
    try:
        registration = Registration(record)
    except StorageError as error:
        tell(f"warning: `mindfl server stop` and `status` will not find this server: {error}")
        yield lambda state: None
        return
    try:
        yield lambda state: registration.update(state=state, iteration=max(server.ended, default=0) + 1)
    finally:
        registration.close()


def _follow(server: FederatedServer, update: Callable[[str], None], tell: Tell) -> None:
    """Report each iteration that ends, until ``KeyboardInterrupt``."""
    seen: tuple[str, dict[int, bool]] = ("running", {})
    while True:
        time.sleep(_POLL_SECONDS)
        server.check()
        state, told = seen
        with suppress(ProtocolError):
            state = server.state().state
        now = state, server.ended
        if now != seen:
            for number in sorted(set(now[1]) - set(told)):
                tell(f"iteration {number} {'ended' if now[1][number] else 'failed'}")
            update(state)
        seen = now
