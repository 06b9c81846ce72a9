"""A redis-server for a test, to be stopped, emptied and started again."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from free_ports import free_address
from server_yaml import server_yaml

from mindfl.server.certificates import CertificateFiles

#: a server's settings; REDIS stands for the address
YAML = server_yaml(cache='type: redis, address: "REDIS"')


class RedisServer:
    """A redis-server in ``folder``; ``kept``: on disk; ``certificates``: with TLS."""

    def __init__(self, folder: Path, *, kept: bool = True, certificates: CertificateFiles | None = None) -> None:
        self.address = free_address()
        self._folder = folder
        self._kept = kept
        self._certificates = certificates

    def start(self) -> None:
        """Start it, and wait until it answers."""
        port = self.address.rpartition(":")[2]
        command = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        if files := self._certificates:
            command += ["--port", "0", "--tls-port", port, "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", str(files.server_cert), "--tls-key-file", str(files.server_key)]
            command += ["--tls-ca-cert-file", str(files.ca_cert)]
        else:
            command += ["--port", port]
        command += ["--appendonly", "yes", "--appendfsync", "always"] if self._kept else ["--appendonly", "no"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Kill it and start it again."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it answer no more."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def ask(self, *command: str) -> object:
        """Return the answer to a command."""
        import redis

        host, port = self.address.split(":")
        with redis.Redis(host, int(port)) as client:
            return client.execute_command(*command)


@contextmanager
def redis_server(
    folder: Path, *, kept: bool = True, certificates: CertificateFiles | None = None
) -> Iterator[RedisServer]:
    """Yield a server that runs, or skip the test."""
    pytest.importorskip("redis", reason="needs the extra redis")
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, kept=kept, certificates=certificates)
    server.start()
    try:
        yield server
    finally:
        server.stop()
