"""Contender: Flower's simulation on Ray, with PyTorch in the clients; one processor and one thread to a worker.

``run_simulation`` runs the same simulation runtime as ``flwr run`` does, but in this process and with an in-memory link
between server and clients: the lighter of the two ways.
"""

from __future__ import annotations

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# By default Ray gives its workers the lowest priority but four: other work of the computer would delay them alone.
os.environ.setdefault("RAY_worker_niceness", "0")

import flwr
import numpy as np
import ray
import torch
from flower_app import WORK_VARIABLE, client_app, server_app
from flwr.simulation import run_simulation
from work import Recorder, Work, contender_parser


def main() -> None:
    """Run the work."""
    parser = contender_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="Ray workers")
    arguments = parser.parse_args()
    os.environ[WORK_VARIABLE] = arguments.work
    work, recorder = Work.load(arguments.work), Recorder()
    run_simulation(
        server_app=server_app(work, recorder),
        client_app=client_app,
        num_supernodes=len(work.clients),
        backend_config={
            "init_args": {"num_cpus": arguments.workers},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    versions = {"flwr": flwr.__version__, "ray": ray.__version__, "torch": torch.__version__, "numpy": np.__version__}
    recorder.save(arguments.result, versions)


if __name__ == "__main__":
    main()
