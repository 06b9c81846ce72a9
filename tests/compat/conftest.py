"""A job's folder, and processes in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from compat_cluster import Launch, Process, settings
from free_ports import free_address
from redis_servers import RedisServer, redis_server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    """The Redis in which the servers of a test meet; it keeps what it holds on disk."""
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, store: RedisServer) -> Path:
    folder = tmp_path / "a jöb"
    (folder / "fl_ckpt").mkdir(parents=True)
    settings(folder, store=store.address)
    return folder


@pytest.fixture
def launch(folder: Path) -> Iterator[Launch]:
    """Return a function that starts a server or a scheduler and waits until it answers; all are killed in the end.

    The first server that is started keeps the job.
    """
    running: list[Process] = []

    def start(role: str = "MS_SERVER") -> Process:
        running.append(Process(folder, role, free_address()))
        running[-1].line("started" if role == "MS_SERVER" else "ready")
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()
