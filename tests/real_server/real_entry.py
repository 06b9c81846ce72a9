"""Runs one process of MindSpore Federated 0.1.0; started under Python 3.7 to 3.9, where mindfl itself cannot run.

    real_entry.py server    CONFIG.yaml HTTP_ADDRESS MODEL.npz CHECKPOINT_FOLDER
    real_entry.py scheduler CONFIG.yaml MANAGE_ADDRESS

What happens is told on stdout, one line of JSON after the word ``event`` each. SIGTERM ends it.
"""

from __future__ import annotations

import json
import sys

import numpy
from mindspore_federated import Callback, FlSchedulerJob, FLServerJob  # type: ignore[import-not-found]


def tell(**event: object) -> None:
    """Print one event."""
    print("event", json.dumps(event), flush=True)


class Events(Callback):  # type: ignore[misc]
    """Tells what the server's callbacks are called with."""

    def after_started(self) -> None:
        """The server accepts requests."""
        tell(name="started")

    def before_stopped(self) -> None:
        """The server is about to stop."""
        tell(name="stopping")


def server(config: str, http_address: str, model: str, checkpoints: str) -> None:
    """Serve until SIGTERM."""
    with numpy.load(model) as weights:
        features = {name: numpy.ascontiguousarray(weights[name], numpy.float32) for name in weights.files}
    job = FLServerJob(config, http_server_address=http_address, tcp_server_ip="127.0.0.1", checkpoint_dir=checkpoints)
    job.run(features, callback=Events())


def scheduler(config: str, manage_address: str) -> None:
    """Serve the management address until SIGTERM."""
    FlSchedulerJob(config, manage_address=manage_address).run()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server(*sys.argv[2:])
    else:
        scheduler(*sys.argv[2:])
