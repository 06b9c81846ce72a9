"""``mindfl server``: start, stop, status, certs, install."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from mindfl.cli.declared import declared_options, json_option, overriding_options
from mindfl.cli.reporting import echo_json
from mindfl.errors import InterruptedRunError, OptionError
from mindfl.files import read_file
from mindfl.options import options_of
from mindfl.options.server_options import (
    PASSWORD_VARIABLE,
    CertsOptions,
    EmbeddedStartOptions,
    EncryptionOptions,
    FederatedStartOptions,
    InstallOptions,
    JobFileOptions,
    LinkOptions,
    RunningOptions,
    SchedulerStartOptions,
    ServerFilesOptions,
    SslOptions,
    StartCommandOptions,
    StartOptions,
)

Command = TypeVar("Command", bound=Callable[..., Any])

#: options that replace settings of the file
_SECTIONS = (JobFileOptions, EncryptionOptions, LinkOptions, ServerFilesOptions, SslOptions)
_OVERRIDING = tuple(name for section in _SECTIONS for name in options_of(section))


def setting_options(command: Command) -> Command:
    """An option for each setting of the file that differs from server to server, or from run to run."""
    for section in reversed(_SECTIONS):
        command = overriding_options(section)(command)
    return command


@click.group("server")
def server_command() -> None:
    """Serve a federated job to MindSpore Federated devices over HTTP or HTTPS."""


@server_command.command()
@declared_options(StartOptions)
@declared_options(StartCommandOptions)
@declared_options(FederatedStartOptions)
@setting_options
def start(stack: str, quiet: bool, password_file: str | None, **values: Any) -> None:
    """Serve the job until Ctrl-C or SIGTERM. Prints one line, `ready http://...`, once devices may connect.

    An interrupted job resumes where it was, and counts every acknowledged upload once; with --stack federated it begins
    anew."""

    def tell(text: str) -> None:
        if not quiet or text.startswith(("warning: ", "live page ")):
            click.echo(f"mindfl: {text}", err=True)

    def ready(url: str) -> None:
        click.echo(f"ready {url}")

    overrides = {name: values.pop(name) for name in _OVERRIDING}
    for only, declarations in _STACK_OPTIONS.items():
        for name, declared in options_of(declarations).items():
            if only != stack and values.pop(name) != declared.default:
                spelling = declared.spellings[-1].split("/")[-1] if declared.spellings else f"--{name}"
                raise OptionError(f"{spelling} is for --stack {only}, not for --stack {stack}")
    common = {"overrides": overrides, "password": _password(password_file), **values}
    number = _SERVE[stack](common, ready, tell)
    if number is signal.SIGINT:
        raise InterruptedRunError("interrupted")


def _serve_embedded(
    options: dict[str, Any], ready: Callable[[str], None], tell: Callable[[str], None]
) -> signal.Signals:
    from mindfl.server.serving import run_server
    from mindfl.server.start_options import ServerOptions

    with _log_to_stderr():
        return run_server(ServerOptions(**options), ready=ready, tell=tell)


def _serve_federated(
    options: dict[str, Any], ready: Callable[[str], None], tell: Callable[[str], None]
) -> signal.Signals:
    from mindfl.real.federated_serve import FederatedOptions, serve_federated

    return serve_federated(FederatedOptions(**options), ready=ready, tell=tell)


_SERVE = {"embedded": _serve_embedded, "federated": _serve_federated}
_STACK_OPTIONS: dict[str, type] = {"embedded": EmbeddedStartOptions, "federated": FederatedStartOptions}


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Show the server's warnings as lines of this program."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mindfl: %(message)s"))
    logger = logging.getLogger("mindfl.server")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _password(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE)
    try:
        return read_file(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise OptionError(f"{path} holds no password: it is not UTF-8 text") from None


@server_command.command()
@declared_options(SchedulerStartOptions)
def scheduler(password_file: str | None, **values: Any) -> None:
    """Answer /state, /queryInstance, /enableFLS, /disableFLS and /newInstance for the servers of a cluster.

    Prints one line, `ready http://...`. May be started before the servers, and outlive them."""
    from mindfl.server.cluster import SchedulerOptions, run_scheduler

    options = SchedulerOptions(password=_password(password_file), **values)
    with _log_to_stderr():
        number = run_scheduler(options, ready=lambda url: click.echo(f"ready {url}"))
    if number is signal.SIGINT:
        raise InterruptedRunError("interrupted")


@server_command.command()
@declared_options(RunningOptions)
def stop(http_server_address: str | None) -> None:
    """Let a server of this user finish the requests in flight, and end it."""
    from mindfl.server.running import find_server, stop_server

    server = find_server(http_server_address)
    stop_server(server)
    click.echo(f"stopped {server.url}")


@server_command.command()
@declared_options(RunningOptions)
@json_option
def status(http_server_address: str | None, as_json: bool) -> None:
    """List the servers of this user on this machine, with the progress of their jobs."""
    from dataclasses import asdict

    from mindfl.server.running import find_server, running_servers

    servers = running_servers() if http_server_address is None else [find_server(http_server_address)]
    if as_json:
        echo_json([asdict(server) for server in servers])
        return
    for server in servers:
        manage = f", management {server.manage_url}" if server.manage_url else ""
        done = min(server.iteration, server.iterations)
        click.echo(
            f"{server.url}: {server.fl_name}, {server.state}, iteration {done} of {server.iterations},"
            f" process {server.pid}{manage}"
        )
    if not servers:
        click.echo("no server runs")


@server_command.command()
@declared_options(CertsOptions)
def certs(hosts: tuple[str, ...], password_file: str | None, **values: Any) -> None:
    """Make a certificate authority, and certificates of a server and a client, for tests and private networks."""
    from mindfl.server.certificates import LOCAL_HOSTS, make_certificates

    files = make_certificates(hosts=hosts or LOCAL_HOSTS, password=_password(password_file), **values)
    click.echo(f"server: {click.format_filename(files.server_p12)}")
    click.echo(f"devices: {click.format_filename(files.ca_cert)}")


@server_command.command()
@declared_options(InstallOptions)
def install(python: str | None, quiet: bool) -> None:
    """Install MindSpore Federated 0.1.0 for --stack federated into mindfl's cache folder: once, 3 GB.

    Prints the path of that Python. Downloads survive an interruption."""
    from mindfl.real import install as install_federated

    def report(text: str) -> None:
        if not quiet:
            click.echo(f"mindfl: {text}", err=True)

    click.echo(click.format_filename(install_federated(python, report=report)))
