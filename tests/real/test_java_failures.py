"""Java clients that fail: one clear error, the last lines of the log, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from java_programs import Jars, served

from mindfl.client import HttpSettings, HttpTransport
from mindfl.errors import ClientError, SimulationError, StorageError
from mindfl.protocol import RequestFLJob, ResponseCode, ResponseFLJob
from mindfl.real.process_registry import ProcessRegistry

DEADLINE = 120.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Files of other processes tell no events."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)


def says(log: Path, text: str) -> bool:
    return log.is_file() and text in log.read_text(errors="replace")


def java_processes(folder: Path) -> list[psutil.Process]:
    """Virtual machines that live and have this folder in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


class TestEnds:
    def test_exit_code(self, make_clients, tmp_path: Path) -> None:
        with pytest.raises(SimulationError) as caught:
            make_clients(1, mode="exit3").run()
        text = str(caught.value)
        assert "it ended with exit code 3" in text and "the flName: com.mindspore" in text and "\n" not in text
        assert str(tmp_path / "run" / "client_0" / "client.log") in caught.value.hint

    def test_all_fail_in_the_same_way(self, make_clients) -> None:
        with pytest.raises(SimulationError, match=r"exit code 3.*; 2 more of 3 failed"):
            make_clients(3, mode="exit3").run()

    def test_the_client_that_failed_is_named_where_others_were_not_started(self, make_clients) -> None:
        """Clients without data are not started for inference."""
        clients = make_clients(3, mode="exit3", task="inference", domain_name=None, untested=[0, 2])
        with pytest.raises(SimulationError, match=r"Java client 1 .*exit code 3.*its log ends: "):
            clients.run()

    def test_what_cannot_start_ends_the_others(self, make_clients, tmp_path: Path) -> None:
        """Client 0 would wait forever; client 1 never says a word."""
        clients = make_clients(2, mode="hang", jvm_options=("-Dstandin.mode.1=crash",))
        with pytest.raises(SimulationError) as caught:
            clients.run()
        assert "Java client 1" in str(caught.value) and "cannot be started" in str(caught.value)
        assert "exit code 7" in str(caught.value) and "crashes before its first record" in str(caught.value)
        assert java_processes(tmp_path) == []

    def test_no_word_and_exit_code_0(self, make_clients) -> None:
        with pytest.raises(SimulationError, match="without a word of the client in its log; its log is empty"):
            make_clients(1, mode="silent").run()

    def test_a_reported_failure_with_exit_code_0(self, make_clients) -> None:
        with served(start_fl_job_threshold=1, fl_iteration_num=3) as server:
            clients = make_clients(1, mode="failed", domain_name=server.url)
            with pytest.raises(ClientError) as caught:
                clients.run()
        assert (caught.value.iteration, caught.value.client) == (1, clients.outcomes[0].name)
        assert clients.outcomes[0].exit_code == 0 and "train loss is:NaN" in clients.outcomes[0].cause

    def test_in_chinese(self, make_clients) -> None:
        options = ("-Duser.language=zh", "-Duser.country=CN")
        with served(start_fl_job_threshold=1) as server:
            clients = make_clients(1, mode="failed", domain_name=server.url, jvm_options=options)
            with pytest.raises(ClientError, match="train loss is:NaN"):
                clients.run()
        assert "严重: <FLClient> [train] train failed" in clients.outcomes[0].log.read_text("utf-8")

    def test_an_exception_of_java(self, make_clients) -> None:
        with pytest.raises(SimulationError, match=r"exit code 1 \(Exception in thread .*the stand-in throws\)"):
            make_clients(1, mode="throw").run()

    def test_one_of_several(self, make_clients) -> None:
        """The others take part to the end, and what they did is kept."""
        with served(start_fl_job_threshold=2, fl_iteration_num=2) as server:
            clients = make_clients(3, domain_name=server.url, jvm_options=("-Dstandin.mode.1=exit3",))
            with pytest.raises(SimulationError, match=r"Java client 1 .*exit code 3"):
                clients.run()
        assert [outcome.state for outcome in clients.outcomes] == ["succeeded", "failed", "succeeded"]
        assert [(row.iteration, row.clients) for row in clients.rows()] == [(1, 2), (2, 2)]

    def test_no_server(self, make_clients) -> None:
        with pytest.raises(SimulationError, match="unsolved error code"):
            make_clients(1, domain_name="http://127.0.0.1:1").run()

    def test_a_job_that_is_over(self, make_clients) -> None:
        with served(start_fl_job_threshold=1) as server:
            server.coordinator.job.disable(0)
            with pytest.raises(SimulationError, match="training job is disabled or finished"):
                make_clients(1, domain_name=server.url).run()

    def test_a_task_that_the_client_does_not_know(self, make_clients) -> None:
        with pytest.raises(SimulationError, match="the client knows no task 'single' and did nothing"):
            make_clients(1, task="single").run()

    def test_an_option_that_java_does_not_know(self, make_clients) -> None:
        with pytest.raises(SimulationError, match=r"cannot be started: .*Unrecognized option: -no-such-option"):
            make_clients(1, jvm_options=("-no-such-option",)).run()

    def test_too_small_a_heap(self, make_clients) -> None:
        with pytest.raises(SimulationError, match=r"cannot be started: .*Too small"):
            make_clients(1, heap="1k").run()

    def test_a_jar_that_is_changed_after_it_was_checked(self, make_clients, jars: Jars, tmp_path: Path) -> None:
        copy = tmp_path / "jar" / "client.jar"
        copy.parent.mkdir()
        copy.write_bytes(jars.client.read_bytes())
        clients = make_clients(1, jar_path=copy)
        copy.write_bytes(b"torn")
        with pytest.raises(SimulationError, match="cannot be started"):
            clients.run()

    def test_a_work_folder_that_is_a_file(self, make_clients, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot create folder"):
            make_clients(1, work_dir=tmp_path / "file").run()

    def test_again_after_a_failure(self, make_clients) -> None:
        clients = make_clients(1, mode="exit3")
        for _ in range(2):
            with pytest.raises(SimulationError, match="exit code 3"):
                clients.run()
        assert len(clients.outcomes) == 1

    def test_left_out_by_the_server(self, make_clients) -> None:
        """Its only iteration is somebody else's, who never uploads."""
        windows = ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window")
        with served(start_fl_job_threshold=1, **dict.fromkeys(windows, 3_000)) as server:
            now = int(time.time() * 1000)
            request = RequestFLJob(fl_name="x", fl_id="somebody else", data_size=32, timestamp=str(now))
            with HttpTransport(HttpSettings(url=server.url)) as transport:
                taken = transport.send(request, now)
            assert isinstance(taken, ResponseFLJob) and taken.retcode == ResponseCode.SUCCEED
            clients = make_clients(1, domain_name=server.url)
            with pytest.raises(SimulationError, match="the server told it to come back later"):
                clients.run()
        assert clients.outcomes[0].state == "left_out" and clients.rows() == []

    def test_a_class_that_java_does_not_find(self, make_clients) -> None:
        with pytest.raises(SimulationError, match=r"ClassNotFoundException: com\.example") as caught:
            make_clients(1, tutorial=True, mode="class", fl_name="com.example.None").run()
        assert "check --case_jarPath and --flName" in caught.value.hint

    def test_a_jar_that_cannot_be_a_module(self, make_clients, jars: Jars, tmp_path: Path) -> None:
        case = tmp_path / "case" / "1.jar"
        case.parent.mkdir()
        case.write_bytes(jars.case.read_bytes())
        with pytest.raises(SimulationError, match="initialization of boot layer") as caught:
            make_clients(1, tutorial=True, case_jar_path=case).run()
        assert "give --lite_jar_path" in caught.value.hint

    def test_data_that_do_not_fit_the_model(self, make_clients) -> None:
        with pytest.raises(SimulationError, match="BufferOverflowException") as caught:
            make_clients(1, mode="overflow").run()
        assert "one-hot float labels" in caught.value.hint


class TestInterrupted:
    @pytest.mark.parametrize("mode", ["hang", "stubborn"])
    def test_ctrl_c(self, make_clients, tmp_path: Path, mode: str) -> None:
        clients = make_clients(2, mode=mode)
        logs = [tmp_path / "run" / f"client_{index}" / "client.log" for index in range(2)]

        def interrupt() -> None:
            try:
                wait_until(lambda: all(says(log, "start syncFLJob.flJobRun()") for log in logs))
            finally:
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            clients.run()
        thread.join()
        assert java_processes(tmp_path) == []
        assert ProcessRegistry(tmp_path / "run").running() == []

    def test_a_killed_client(self, make_clients, tmp_path: Path) -> None:
        clients = make_clients(1, mode="hang")
        log = tmp_path / "run" / "client_0" / "client.log"

        def kill() -> None:
            try:
                wait_until(lambda: says(log, "start syncFLJob.flJobRun()"))
            finally:
                (record,) = ProcessRegistry(tmp_path / "run").running()
                os.kill(record.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        with pytest.raises(SimulationError, match=r"it was ended by SIGKILL; its log ends: .*start syncFLJob"):
            clients.run()
        thread.join()

    def test_two_at_once_in_one_folder(self, make_clients, tmp_path: Path) -> None:
        first, second = make_clients(1, mode="hang"), make_clients(1, mode="hang")
        log = tmp_path / "run" / "client_0" / "client.log"
        ended = threading.Event()

        def run_first() -> None:
            with pytest.raises(SimulationError, match=r"SIGTERM|exit code 143"):
                first.run()
            ended.set()

        thread = threading.Thread(target=run_first)
        thread.start()
        wait_until(lambda: says(log, "start syncFLJob.flJobRun()"))
        with pytest.raises(SimulationError, match="another run is working in"):
            second.run()
        assert not ended.is_set()
        ProcessRegistry(tmp_path / "run").end()
        thread.join()

    def test_mindfl_is_killed(self, jars: Jars, bins: Path, model: Path, tmp_path: Path) -> None:
        """The clients outlive it; the registry of the folder finds and ends them."""
        folder = tmp_path / "run"
        program = [sys.executable, str(Path(__file__).with_name("killed_java_run.py"))]
        paths = (jars.client, jars.case, jars.lite, bins, folder, model)
        parent = subprocess.Popen([*program, *map(str, paths)])
        registry = ProcessRegistry(folder)
        try:
            logs = [folder / f"client_{index}" / "client.log" for index in range(2)]
            wait_until(lambda: all(says(log, "start syncFLJob.flJobRun()") for log in logs))
        finally:
            parent.kill()
            parent.wait()
            outlived = sorted(record.role for record in registry.running())
            registry.end()
        assert outlived == ["Java client 0", "Java client 1"]
        wait_until(lambda: java_processes(tmp_path) == [])
        assert registry.running() == []
