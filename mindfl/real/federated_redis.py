"""The Redis of a real server: the command that starts one, and the question whether one contains a job."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindfl.errors import SimulationError
from mindfl.imports import lacks
from mindfl.server.http import Address

READY = "Ready to accept connections"
_ANSWER_SECONDS = 5.0
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "*?[]^-\\"})


def redis_server() -> str:
    """Return the path of redis-server. Raises :class:`SimulationError` if there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise SimulationError(
            "there is no redis-server on this machine",
            hint="install it (Debian: apt-get install redis-server), or name a Redis that runs with --redis_address",
        )
    return program


def redis_command(address: Address, certificates: str | None) -> list[str]:
    """Return the command of a Redis that keeps nothing on disk.

    Args:
        address: address to listen at.
        certificates: folder of ``mindfl server certs``, relative to the folder it runs in, for TLS only; None: no TLS.
    """
    ports = ["--port", str(address.port)]
    if certificates is not None:
        ports = ["--port", "0", "--tls-port", str(address.port)]
        files = {"cert": "server.crt", "key": "server.key", "ca-cert": "ca.crt"}
        for option, name in files.items():
            ports += [f"--tls-{option}-file", f"{certificates}/{name}"]
    return [redis_server(), "--bind", address.host, *ports, "--save", "", "--appendonly", "no"]


def redis_entries(certificates: Path) -> dict[str, object]:
    """Return the keys of the YAML file for servers that use a Redis of :func:`redis_command` over TLS."""
    files = {"cacert_filename": "ca.crt", "cert_filename": "client.crt", "private_key_filename": "client.key"}
    return {f"distributed_cache.{key}": str(certificates / name) for key, name in files.items()}


def reach_redis(address: str) -> None:
    """Raise :class:`SimulationError` where nothing listens at ``address``, or the package redis is missing."""
    _package()
    place = Address.parse(address, "redis_address")
    try:
        socket.create_connection((place.host, place.port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise _unusable(address, error) from None


def holds_job(address: str, fl_name: str, tls: Mapping[str, object]) -> bool:
    """Return whether the Redis at ``address`` contains a job of this name.

    Args:
        address: HOST:PORT.
        fl_name: name of the job.
        tls: the keys of :func:`redis_entries`; empty without TLS.

    Raises:
        SimulationError: the Redis does not answer, or the package redis is missing.
    """
    redis = _package()
    place = Address.parse(address, "redis_address")
    keys = {"ca_certs": "cacert_filename", "certfile": "cert_filename", "keyfile": "private_key_filename"}
    files = {f"ssl_{option}": tls.get(f"distributed_cache.{key}") or None for option, key in keys.items()}
    encrypted = {"ssl": True, "ssl_check_hostname": False, **files} if tls else {}
    client = redis.Redis(
        place.host, place.port, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS, **encrypted
    )
    try:
        with client:
            client.ping()
            pattern = f"ms_fl:{fl_name.translate(_SPECIAL)}:*"
            return next(client.scan_iter(match=pattern, count=1000), None) is not None
    except (redis.RedisError, OSError) as error:
        raise _unusable(address, error) from None


def _package() -> Any:
    try:
        import redis
    except ModuleNotFoundError:
        raise lacks("a Redis of your own", "redis") from None
    return redis


def _unusable(address: str, error: Exception) -> SimulationError:
    return SimulationError(
        f"the Redis at {address} cannot be used: {error}", hint="start it first, or leave redis_address out"
    )
