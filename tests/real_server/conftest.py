"""The real stack, made by the fixtures themselves, and the server of this project; both only while they are needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from free_ports import free_address
from real_stack import Job, Program, RunningServer, ServerFactory, running, running_real


@pytest.fixture
def real_server(real_interpreter: Path, tmp_path: Path) -> Iterator[ServerFactory]:
    """Return a function that starts the real server for a job."""
    with ExitStack() as stack:
        yield lambda job: stack.enter_context(running_real(job, tmp_path))


@pytest.fixture
def our_server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Return a function that starts ``mindfl server`` for a job, from the very file that the real one reads."""
    with ExitStack() as stack:
        yield lambda job: stack.enter_context(running_ours(job, tmp_path))


@contextmanager
def running_ours(job: Job, folder: Path) -> Iterator[RunningServer]:
    """Run ``mindfl server`` for ``job`` in ``folder``."""
    config, model = job.write(folder)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mindfl",
        "server",
        "start",
        "--config",
        config,
        "--model",
        model,
    ]
    command += ["--http_server_address", "127.0.0.1:0"]
    manage = free_address() if job.managed else ""
    if manage:
        command += ["--manage_address", manage]
    with running(Program("mindfl server", command, folder)) as program:
        url = program.await_line("ready ").split()[-1]
        yield RunningServer(url, f"http://{manage}" if manage else "")
