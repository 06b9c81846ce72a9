"""Contender: Flower's simulation on Ray with the loop of its baselines/niid_bench."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import flwr
import ray
import torch
from flwr.simulation import run_simulation
from niid_flower_app import WORK_VARIABLE, client_app, server_app
from niid_work import Clock, NiidWork
from work import contender_parser


def main() -> None:
    """Run the work."""
    parser = contender_parser(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="Ray workers")
    arguments = parser.parse_args()
    os.environ[WORK_VARIABLE] = arguments.work
    work, clock = NiidWork.load(arguments.work), Clock()
    resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0.0}
    run_simulation(
        server_app=server_app(work, clock),
        client_app=client_app,
        num_supernodes=len(work.clients()),
        backend_config={
            "init_args": {"address": "local", "num_cpus": arguments.workers},
            "client_resources": resources,
        },
    )
    clock.save(arguments.result, {"flwr": flwr.__version__, "ray": ray.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main()
