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

from mindfl.protocol import PlainText, RequestFLJob, RequestUpdateModel, ResponseUpdateModel, texts
from mindfl.server import Coordinator, ServerConfig

CLIENTS = 6
POLL_S = 0.02


class Fleet:
    """Devices that talk to whichever server answers.

    ``lost_starts`` and ``lost`` are the starts and uploads whose answer was lost with a server that the device itself
    was connected to. It sends them again as if they were new, as the reference's devices would; what they are told then
    depends on whether they had been counted. ``faults`` is what should not have happened.
    """

    def __init__(self, servers: list[Process], iterations: int) -> None:
        self.servers = servers
        self.accepted: Counter[tuple[str, int]] = Counter()
        self.lost: set[tuple[str, int]] = set()
        self.lost_starts: set[tuple[str, int]] = set()
        self.faults: list[object] = []
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
        assert self.faults == []
        assert not self.running()

    def _run(self, fl_id: str) -> None:
        try:
            self._take_part(fl_id)
        except BaseException as error:
            self.faults.append(error)

    def _take_part(self, fl_id: str) -> None:
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
            self.lost_starts.add((fl_id, iteration))
            return False
        if response.iteration != iteration:
            return False
        # A start that counted is known as a duplicate, or, as there are no more places than devices, as one too many.
        counted = response.reason in (texts.START_DUPLICATE.format(fl_id=fl_id), texts.START_QUOTA_FULL)
        return response.retcode == 200 or (counted and (fl_id, iteration) in self.lost_starts)

    def _uploaded(self, server: Process, fl_id: str, iteration: int) -> bool:
        try:
            response = server.upload(fl_id, iteration)
        except (OSError, HTTPException):
            self.lost.add((fl_id, iteration))
            return False
        if isinstance(response, ResponseUpdateModel) and response.retcode == 200:
            self.accepted[fl_id, iteration] += 1
        elif (fl_id, iteration) not in self.lost:
            self.faults.append((fl_id, iteration, response))
        elif isinstance(response, PlainText) and iteration != self._iterations:
            self.faults.append((fl_id, iteration, "the job is over too early"))
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
    # An upload that was refused as late, or with the text that the job is over, had been counted: every iteration needs
    # the uploads of all devices, and the last model holds each of them once.
    everybody = {(str(number), iteration) for number in range(1, CLIENTS + 1) for iteration in range(1, iterations + 1)}
    assert everybody == fleet.accepted.keys() | fleet.lost
    final = servers[0].model(iterations).feature_map
    expected = undisturbed(iterations)
    assert final is not None
    for name in ("fc.bias", "fc.weight"):
        assert final[name].tobytes() == expected[name].tobytes()
    assert max(fleet.accepted.values()) == 1


@pytest.mark.slow
def test_four_kills(launch: Launch, folder: Path) -> None:
    kill_at_random(launch, folder, seed=1, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_twenty_five_kills(launch: Launch, folder: Path, seed: int) -> None:
    kill_at_random(launch, folder, seed, kills=25)
