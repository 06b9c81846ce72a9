"""Servers of one job killed at random, again and again: the result is that of an undisturbed run."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from compat_cluster import Launch, Process, settings, upload

from mindfl.protocol import RequestFLJob, RequestUpdateModel
from mindfl.server import Coordinator, ServerConfig

CLIENTS = 6
POLL_S = 0.02


class Fleet:
    """Devices that talk to whichever server answers."""

    def __init__(self, servers: list[Process], iterations: int) -> None:
        self.servers = servers
        self.accepted: Counter[tuple[str, int]] = Counter()
        self._iterations = iterations
        self._threads = [threading.Thread(target=self._run, args=(str(number),)) for number in range(1, CLIENTS + 1)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _run(self, fl_id: str) -> None:
        chance = random.Random(int(fl_id))
        for iteration in range(1, self._iterations + 1):
            while not self._joined(self._any(chance), fl_id, iteration):
                time.sleep(POLL_S)
            while not self._uploaded(self._any(chance), fl_id, iteration):
                time.sleep(POLL_S)
            while self._closed(self._any(chance), iteration) is not True:
                time.sleep(POLL_S)

    def _any(self, chance: random.Random) -> Process:
        return chance.choice(self.servers)

    def _joined(self, server: Process, fl_id: str, iteration: int) -> bool:
        try:
            response = server.start(fl_id)
        except (OSError, HTTPException):
            return False
        # A start whose answer was lost is known as a duplicate.
        return response.iteration == iteration and (response.retcode == 200 or "failed for fl id" in response.reason)

    def _uploaded(self, server: Process, fl_id: str, iteration: int) -> bool:
        try:
            code = server.update(fl_id, iteration)
        except (OSError, HTTPException):
            return False
        self.accepted[fl_id, iteration] += code == 200
        return True

    def _closed(self, server: Process, iteration: int) -> bool:
        try:
            return server.model(iteration).retcode == 200
        except (OSError, HTTPException):
            return False


def undisturbed(iterations: int) -> dict[str, np.ndarray]:
    """Return the model that the job ends with when nothing goes wrong."""
    sizes = {"bn.moving_mean": 1, "fc.bias": 2, "fc.weight": 6}
    start = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    job = Coordinator(ServerConfig(fl_iteration_num=iterations, start_fl_job_threshold=CLIENTS), start)
    clients = [str(number) for number in range(1, CLIENTS + 1)]
    for iteration in range(1, iterations + 1):
        for fl_id in clients:
            job.handle(RequestFLJob(fl_name="any", fl_id=fl_id, data_size=3, timestamp="1"), 0)
        for fl_id in clients:
            job.handle(
                RequestUpdateModel(
                    fl_id=fl_id, iteration=iteration, feature_map=upload(fl_id, iteration), timestamp="1"
                ),
                0,
            )
    return dict(job.model)


def kill_at_random(launch: Launch, folder: Path, seed: int, kills: int) -> None:
    iterations = 4 + kills
    settings(folder, clients=CLIENTS, iterations=iterations)
    chance = random.Random(seed)
    servers = [launch(), launch(), launch()]
    fleet = Fleet(servers, iterations)
    fleet.start()
    for _ in range(kills):
        # Not waited for: the instant of the kill is drawn at random.
        time.sleep(chance.uniform(0, 0.1))
        victim = chance.randrange(3)
        servers[victim].process.kill()
        servers[victim].process.wait()
        servers[victim] = launch()
    fleet.join()
    final = servers[0].model(iterations).feature_map
    expected = undisturbed(iterations)
    assert final is not None
    for name in ("fc.bias", "fc.weight"):
        assert final[name].tobytes() == expected[name].tobytes()
    assert max(fleet.accepted.values()) == 1


def test_four_kills(launch: Launch, folder: Path) -> None:
    kill_at_random(launch, folder, seed=1, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_twenty_five_kills(launch: Launch, folder: Path, seed: int) -> None:
    kill_at_random(launch, folder, seed, kills=25)
