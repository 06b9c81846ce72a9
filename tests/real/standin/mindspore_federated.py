"""A stand-in for the package of this name: listens where it is told, and says what it was told. Nothing is learned."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

#: JSON in the environment: what goes wrong, by the name of the process's folder
FAULTS: dict[str, str] = json.loads(os.environ.get("STANDIN_FAULTS", "{}"))


class SSLConfig:
    """Keeps the passwords."""

    def __init__(self, server_password: str, client_password: str) -> None:
        self.passwords = [server_password, client_password]


class Callback:
    """What a server calls."""


class Context:
    """What a callback is given."""

    instance_name = "instance"
    iteration_valid = True

    def __init__(self, iteration_num: int) -> None:
        self.iteration_num = iteration_num


class FLServerJob:
    """Accepts connections until SIGTERM. SIGUSR1 ends an iteration."""

    def __init__(self, config: str, http: str, tcp_ip: str, checkpoints: str, tls: SSLConfig | None) -> None:
        self._address = http.rpartition(":")
        self._told = {
            "config": config,
            "http": http,
            "tcp_ip": tcp_ip,
            "checkpoints": checkpoints,
            "passwords": tls.passwords if tls else None,
        }

    def run(self, features: dict[str, Any], callback: Any) -> None:
        """Serve."""
        weights = {name: [str(value.dtype), value.tolist()] for name, value in features.items()}
        Path("told.json").write_text(json.dumps({**self._told, "weights": weights}))
        fault = FAULTS.get(Path.cwd().name)
        if fault == "silent":
            print("still thinking", flush=True)
            signal.pause()
        if fault:
            raise RuntimeError(fault)
        with socket.create_server((self._address[0], int(self._address[2]))):
            signals = (signal.SIGTERM, signal.SIGUSR1)
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            callback.after_started()
            iteration = 0
            while signal.sigwait(signals) == signal.SIGUSR1:
                iteration += 1
                callback.on_iteration_end(Context(iteration))
            callback.before_stopped()


class FlSchedulerJob:
    """Answers /state until SIGTERM."""

    def __init__(self, config: str, manage: str, tls: SSLConfig | None) -> None:
        host, _, port = manage.rpartition(":")
        self._server = HTTPServer((host, int(port)), Answers)

    def run(self) -> None:
        """Serve."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        signal.sigwait([signal.SIGTERM])


class Answers(BaseHTTPRequestHandler):
    """Answers as the scheduler does."""

    def do_POST(self) -> None:
        """Answer."""
        known = self.path == "/state"
        answer = {"cluster_state": "CLUSTER_READY", "nodes": [{"tcp_address": "127.0.0.1:1"}]}
        body = json.dumps(answer if known else {"code": "1", "error_message": "no such thing"}).encode()
        self.send_response(200 if known else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    sys.exit("a stand-in is imported, not run")
