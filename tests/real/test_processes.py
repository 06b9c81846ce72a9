"""The processes of a work folder: recorded, found again, ended; and never another one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindfl.errors import SimulationError, StorageError
from mindfl.real import process_registry as processes_module
from mindfl.real.process_registry import ProcessRegistry
from mindfl.real.process_table import VARIABLE, Ending, ProcessRecord, end_processes, record_of, still_runs

SLEEP = ("sleep", "600")
STUBBORN = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ProcessRegistry]:
    registry = ProcessRegistry(tmp_path / "rün 1")
    yield registry
    registry.end(grace_seconds=0)


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A process that no registry started."""
    with subprocess.Popen(SLEEP) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(endings: list[Ending]) -> list[ProcessRecord]:
    return [ending.record for ending in endings if ending.outcome != "left"]


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def records(registry: ProcessRegistry) -> list[Path]:
    return sorted((registry.work_dir / "processes").glob("*"))


def forge(registry: ProcessRegistry, **fields: object) -> Path:
    path = registry.work_dir / "processes" / "1_1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"work_dir": registry.token, **fields}))
    return path


def described(pid: int) -> dict[str, object]:
    record = record_of(pid, "server 0", ["x"])
    return {name: getattr(record, name) for name in ("pid", "started", "boot", "role", "command", "log")}


class TestStarting:
    def test_output_environment_and_exit_status(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        words = ("sh", "-c", f"echo out; echo err >&2; echo ${VARIABLE}; pwd; exit 3")
        started = registry.start(words, role="x", log=tmp_path / "logs" / "x.log", cwd=tmp_path)
        assert started.wait(60) == 3 and started.poll() == 3
        assert started.last_lines() == ["out", "err", str(registry.work_dir), str(tmp_path)]
        assert started.last_lines(1) == [str(tmp_path)]

    def test_given_environment_is_the_whole_one(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(["/usr/bin/env"], role="x", log=tmp_path / "log", env={"A": "ä"})
        assert started.wait(60) == 0
        assert sorted(started.last_lines()) == ["A=ä", f"{VARIABLE}={registry.token}"]

    def test_session_of_its_own(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        assert os.getsid(started.pid) == started.pid != os.getsid(0)

    def test_record_is_there_while_it_runs_only(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="server 0", log=tmp_path / "log")
        (path,) = records(registry)
        assert path.stat().st_mode & 0o777 == 0o600
        assert registry.running() == [started.record]
        assert (started.record.role, started.record.command) == ("server 0", "sleep 600")
        assert started.stop() == -signal.SIGTERM
        assert records(registry) == [] and registry.running() == []

    def test_log_is_replaced(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        log = tmp_path / "log"
        for word in ("1", "2"):
            started = registry.start(["echo", word], role="x", log=log)
            assert started.wait(60) == 0 and started.last_lines() == [word]

    def test_new_output_and_lines(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(["printf", "a\\nb"], role="x", log=tmp_path / "log")
        assert started.wait(60) == 0
        assert (started.new_lines(), started.new_lines()) == (["a"], [])
        with started.log.open("ab") as log:
            log.write(b"c\nd")
        assert (started.new_lines(), started.new_output()) == (["bc"], b"")
        started.log.unlink()
        with pytest.raises(StorageError, match="cannot read"):
            started.new_output()

    @pytest.mark.parametrize(
        ("words", "cwd", "reason"),
        [
            (("no-such-program",), None, "cannot start server 0: no-such-program: No such file or directory"),
            (("/",), None, "cannot start server 0: /: Permission denied"),
            (SLEEP, "nowhere", "nowhere: No such file or directory"),
        ],
    )
    def test_cannot_be_started(
        self, registry: ProcessRegistry, tmp_path: Path, words: tuple[str, ...], cwd: str | None, reason: str
    ) -> None:
        with pytest.raises(SimulationError, match=reason):
            registry.start(words, role="server 0", log=tmp_path / "log", cwd=cwd and tmp_path / cwd)
        assert records(registry) == []

    def test_log_cannot_be_written(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=f"cannot write {tmp_path}"):
            registry.start(SLEEP, role="x", log=tmp_path)
        assert registry.running() == []

    def test_record_cannot_be_written(
        self, registry: ProcessRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: object, **kwargs: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(processes_module, "write_atomic", full)
        with pytest.raises(StorageError, match="full"):
            registry.start(SLEEP, role="x", log=tmp_path / "log")
        assert registry.running() == []

    def test_interrupted_while_it_starts(
        self, registry: ProcessRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = processes_module.write_atomic

        def interrupted(*args: object, **kwargs: object) -> None:
            signal.raise_signal(signal.SIGINT)
            write(*args, **kwargs)

        monkeypatch.setattr(processes_module, "write_atomic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            registry.start(SLEEP, role="x", log=tmp_path / "log")
        assert registry.running() == [] and records(registry) == []

    def test_many_threads_start_at_once(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        def start(number: int) -> None:
            registry.start(SLEEP, role=f"client {number}", log=tmp_path / f"{number}.log")

        threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {record.role for record in registry.running()} == {f"client {number}" for number in range(8)}
        assert len(ended(registry.end())) == 8 and registry.running() == []


class TestEnding:
    def test_stubborn_one_is_killed(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(STUBBORN, role="x", log=tmp_path / "log")
        wait_until(started.last_lines)
        outcomes = {ending.record.pid: ending.outcome for ending in registry.end(grace_seconds=0.2)}
        assert outcomes[started.pid] == "killed"
        assert started.poll() == -signal.SIGKILL and registry.running() == []

    def test_halted_one(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        os.kill(started.pid, signal.SIGSTOP)
        assert started.stop(grace_seconds=0.1) == -signal.SIGKILL

    def test_children_end_with_it(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(("sh", "-c", "sleep 600 & sleep 600"), role="server 0", log=tmp_path / "log")
        wait_until(lambda: len(registry.running()) == 3)
        assert {record.role for record in registry.running()} == {"server 0", "child of server 0"}
        started.stop()
        assert registry.running() == []

    def test_orphans_are_found_by_their_environment(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(("sh", "-c", "sleep 600 & sleep 600 &"), role="x", log=tmp_path / "log")
        assert started.wait(60) == 0
        wait_until(lambda: [record.command for record in registry.running()] == ["sleep 600"] * 2)
        orphans = registry.running()
        assert [record.role for record in orphans] == ["unrecorded"] * 2
        assert ended(registry.end()) == orphans and registry.running() == []

    def test_children_without_the_environment_are_found_by_their_parent(
        self, registry: ProcessRegistry, tmp_path: Path
    ) -> None:
        registry.start(("sh", "-c", "env -i sleep 600; :"), role="x", log=tmp_path / "log")
        wait_until(lambda: len(registry.running()) == 2)
        wait_until(lambda: registry.running()[1].command == "sleep 600")
        assert len(ended(registry.end())) == 2 and registry.running() == []

    def test_children_of_orphans_without_the_environment(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(("sh", "-c", "sh -c 'env -i sleep 600; :' &"), role="x", log=tmp_path / "log")
        assert started.wait(60) == 0
        wait_until(lambda: "sleep 600" in [record.command for record in registry.running()])
        assert len(ended(registry.end())) == 2 and registry.running() == []

    def test_only_the_records_given(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        first, second = (registry.start(SLEEP, role="x", log=tmp_path / "log") for _ in range(2))
        assert ended(registry.end([first.record])) == [first.record]
        assert registry.running() == [second.record]

    def test_is_reported_before(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        seen = []
        registry.end(report=lambda records: seen.extend((record, still_runs(record)) for record in records))
        assert seen == [(started.record, True)]

    def test_again_and_nothing_started(self, registry: ProcessRegistry) -> None:
        assert registry.end() == registry.end() == []
        assert not registry.work_dir.exists()

    def test_stop_of_one_that_has_ended(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(["false"], role="x", log=tmp_path / "log")
        started.wait(60)
        assert started.stop() == started.stop() == 1

    def test_never_itself_or_its_parents(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        program = f"""
from mindfl.real.process_table import end_processes, record_of
from mindfl.real.process_registry import ProcessRegistry
import os
registry = ProcessRegistry({str(registry.work_dir)!r})
print(len(registry.running()), len(registry.end()))
print(len(end_processes([record_of(os.getpid(), "", []), record_of(os.getppid(), "", [])])))
"""
        started = registry.start(
            ("sh", "-c", f"sleep 600 & {sys.executable} -c '{program.replace(chr(39), chr(34))}'; echo alive"),
            role="x",
            log=tmp_path / "log",
        )
        assert started.wait(60) == 0
        assert started.last_lines() == ["1 1", "0", "alive"]

    def test_two_end_at_once(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        for _ in range(4):
            registry.start(SLEEP, role="x", log=tmp_path / "log")
        threads = [threading.Thread(target=ProcessRegistry(registry.work_dir).end) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert registry.running() == [] and records(registry) == []

    def test_one_that_may_not_be_signalled(
        self, registry: ProcessRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import psutil

        def refuse(process: psutil.Process) -> None:
            raise psutil.AccessDenied(process.pid)

        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, "terminate", refuse)
            (ending,) = registry.end()
        assert ending.outcome == "left" and "may not be signalled" in ending.reason
        assert registry.running() == [started.record], "its record stays"


class TestMindflWasKilled:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_between_start_and_record(self, registry: ProcessRegistry, tmp_path: Path, moment: str) -> None:
        program = f"""
import os, signal
from pathlib import Path
from mindfl.real import process_registry as processes
registry = processes.ProcessRegistry({str(registry.work_dir)!r})
registry.start(["sleep", "600"], role="server 0", log=Path({str(tmp_path / "0.log")!r}))
write = processes.write_atomic
def die(*args, **kwargs):
    if {moment == "after"}:
        write(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
processes.write_atomic = die
registry.start(["sleep", "600"], role="server 1", log=Path({str(tmp_path / "1.log")!r}))
"""
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
        found = registry.running()
        assert [record.role for record in found] == ["server 0", "server 1" if moment == "after" else "unrecorded"]
        assert ended(registry.end()) == found
        assert registry.running() == [] and records(registry) == []


class TestNeverAnotherProcess:
    @pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}, {"work_dir": "/another"}])
    def test_id_that_went_to_another_process(
        self, registry: ProcessRegistry, foreign: subprocess.Popen[bytes], change: dict[str, object]
    ) -> None:
        forge(registry, **{**described(foreign.pid), **change})
        assert registry.running() == [] == registry.end()
        assert foreign.poll() is None

    def test_forged_record_would_be_believed_otherwise(
        self, registry: ProcessRegistry, foreign: subprocess.Popen[bytes]
    ) -> None:
        forge(registry, **described(foreign.pid))
        assert [record.pid for record in registry.running()] == [foreign.pid]

    def test_record_that_went_stale_after_it_was_listed(self, foreign: subprocess.Popen[bytes]) -> None:
        record = record_of(foreign.pid, "x", ["x"])
        foreign.kill()
        foreign.wait()
        assert end_processes([record]) == []

    def test_lack_of_file_handles_is_no_end(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(OSError, match="open files"):
                still_runs(started.record)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def test_record_of_another_process_is_removed(
        self, registry: ProcessRegistry, foreign: subprocess.Popen[bytes]
    ) -> None:
        path = forge(registry, **{**described(foreign.pid), "started": 1})
        registry.end()
        assert not path.exists()

    def test_copy_of_a_work_folder(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        copy = shutil.copytree(registry.work_dir, tmp_path / "copy")
        assert ProcessRegistry(copy).end() == []
        assert started.poll() is None

    def test_neighbouring_folder(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        for other in (registry.work_dir.parent, registry.work_dir / "processes", f"{registry.work_dir}0"):
            assert ProcessRegistry(other).end() == []
        assert started.poll() is None

    def test_folder_by_another_name(
        self, registry: ProcessRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = registry.start(SLEEP, role="x", log=tmp_path / "log")
        (tmp_path / "link").symlink_to(registry.work_dir)
        monkeypatch.chdir(registry.work_dir)
        for name in (".", tmp_path / "link", "../rün 1/"):
            assert ProcessRegistry(name).running() == [started.record]

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.one_of(
            st.sampled_from([b"", b"{}", b"[]", b"null", b'{"pid": 1}', b'{"work_dir": "HERE"}']),
            st.binary(max_size=40),
            st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=5), st.lists, max_leaves=5).map(
                lambda value: json.dumps(value).encode()
            ),
            st.fixed_dictionaries(
                {name: st.none() | st.integers() | st.floats() | st.text(max_size=5) for name in described(1)}
            ).map(lambda value: json.dumps({**value, "work_dir": "HERE"}).encode()),
        )
    )
    def test_records_of_any_content(self, registry: ProcessRegistry, content: bytes) -> None:
        path = forge(registry)
        path.write_bytes(content.replace(b'"HERE"', json.dumps(registry.token).encode()))
        assert registry.running() == []
        assert registry.end() == []


class TestFolders:
    def test_name_that_is_no_text(self, tmp_path: Path) -> None:
        registry = ProcessRegistry(tmp_path / os.fsdecode(b"\xff \n"))
        registry.start(("sh", "-c", "sleep 600 &"), role="x", log=registry.work_dir / "log").wait(60)
        started = registry.start(SLEEP, role="y", log=registry.work_dir / "log")
        assert len(registry.running()) == 2 and len(ended(registry.end())) == 2
        assert started.poll() == -signal.SIGTERM

    def test_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        assert ProcessRegistry(tmp_path / "loop").end() == []

    def test_removed_while_processes_run(self, registry: ProcessRegistry, tmp_path: Path) -> None:
        registry.start(SLEEP, role="x", log=tmp_path / "log")
        shutil.rmtree(registry.work_dir)
        assert len(ended(registry.end())) == 1 and registry.running() == []

    def test_read_only(self, tmp_path: Path) -> None:
        folder = tmp_path / "mounted"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no tmpfs can be mounted here")
        try:
            registry = ProcessRegistry(folder)
            registry.start(SLEEP, role="x", log=tmp_path / "log")
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            with pytest.raises(StorageError, match="ead-only"):
                registry.start(SLEEP, role="y", log=tmp_path / "log")
            assert [record.role for record in ended(registry.end())] == ["x"]
            assert registry.end() == [] and len(records(registry)) == 1
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
