"""Several jobs in one process, in its event loop, and in processes forked and spawned from it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mindfl.errors import MindflWarning, SimulationError
from mindfl.sim import FederatedLeNetJob, client_pool
from mindfl.sim.history import History
from mindfl.sim.plot import plot_history
from mindfl.system import ProcessLock, startable_threads

JobFactory = Callable[..., FederatedLeNetJob]


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """Call all at the same time; return what each returns or raises."""
    outcomes: list[object] = [None] * len(calls)
    together = threading.Barrier(len(calls))

    def call(place: int) -> None:
        together.wait()
        try:
            outcomes[place] = calls[place]()
        except BaseException as error:
            outcomes[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def trained(job: FederatedLeNetJob) -> str:
    return job.train().hash


def test_jobs_in_threads_train_as_one_alone_does(make_job: JobFactory, tmp_path: Path) -> None:
    own = [Path(shutil.copytree(tmp_path / "models", tmp_path / f"models{place}")) for place in range(3)]
    alone = trained(make_job())
    settings: list[dict[str, object]] = [{}, {"transport": "http"}, {"workers": 1}]
    jobs = [
        make_job(work_dir=tmp_path / f"run{place}", train_model_path=own[place], **each)
        for place, each in enumerate(settings)
    ]
    assert in_threads(*(lambda job=job: trained(job) for job in jobs)) == [alone] * len(jobs)


@pytest.mark.slow
def test_engines_of_mindspore_in_threads(make_job: JobFactory, tmp_path: Path) -> None:
    jobs = [
        make_job(work_dir=tmp_path / f"run{place}", train_model_path=None, engine="mindspore", iterations=1)
        for place in range(2)
    ]
    first, second = in_threads(*(lambda job=job: trained(job) for job in jobs))
    assert isinstance(first, str) and first == second


def test_two_jobs_in_one_folder_are_refused_in_one_line(make_job: JobFactory) -> None:
    first, second = make_job(), make_job()
    with first._working():
        (refused,) = in_threads(second.train)
    assert isinstance(refused, SimulationError) and "another run is working" in refused.line()


@pytest.mark.parametrize("settings", [{}, {"transport": "http"}])
def test_a_job_in_a_running_event_loop(make_job: JobFactory, settings: dict[str, str]) -> None:
    async def cell() -> str:
        return trained(make_job(**settings))

    assert len(asyncio.run(cell())) == 64


SCRIPT = """
import multiprocessing
import sys
import threading
from mindfl.sim import FederatedLeNetJob

def train(folder, **settings):
    settings |= dict(client_num=3, iterations=1, epochs=1, workers=2, train_dataset=sys.argv[1])
    result = FederatedLeNetJob(work_dir=folder, **settings).run()
    return result.hash, "mindspore" in sys.modules

if __name__ == "__main__":
    print(train("here"))
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            settings = {"origin_train_model_path": "here/ms/lenet_train.ms"} if method == "spawn" else {}
            print(pool.apply(train, [method], settings))
"""


@pytest.mark.usefixtures("converter_library")
@pytest.mark.slow
def test_jobs_in_forked_and_spawned_processes(writers: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(writers)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1, done.stdout
    assert lines[0].endswith("False)"), "the export left MindSpore in this process"


def test_figures_drawn_in_threads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{place}.png" for place in range(4)]
    assert in_threads(*(lambda path=path: plot_history(History(), path, title="数据") for path in paths)) == [None] * 4
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_lock_that_another_thread_holds_is_free_after_a_fork() -> None:
    lock = ProcessLock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(60)
        with lock:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()


def test_threads_that_the_system_lets_start_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    start, left = threading.Thread.start, [5]

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert [startable_threads(wanted) for wanted in (2, 8, 8)] == [2, 1, 0]


def test_fewer_workers_train_with_a_warning_and_none_is_one_line(
    make_job: JobFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_pool, "startable_threads", lambda wanted: 1)
    with pytest.warns(MindflWarning, match="1 worker threads instead of 2"):
        make_job(iterations=1).train()
    monkeypatch.setattr(client_pool, "startable_threads", lambda wanted: 0)
    with pytest.raises(SimulationError, match="no thread can be started"):
        make_job(iterations=1, work_dir=tmp_path / "other").train()
