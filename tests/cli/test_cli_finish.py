"""``mindfl finish``: lists, then ends, exactly the processes of a work folder; and those that hold a tag."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from mindfl.options.command_options import KILL_TAG
from mindfl.real.process_registry import ProcessRegistry

MINDFL = (sys.executable, "-m", "mindfl")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ProcessRegistry]:
    registry = ProcessRegistry(tmp_path / "run")
    yield registry
    registry.end(grace_seconds=0)


@pytest.fixture
def tag() -> str:
    return f"tag-{uuid4()}"


@pytest.fixture
def tagged(tag: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that mindfl did not start, with the tag in its command line."""
    with foreign(*sleeping(tag)) as process:
        yield process


@contextmanager
def foreign(*words: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that mindfl did not start; gone with all its children at the end."""
    with subprocess.Popen(words, start_new_session=True, **settings) as process:
        try:
            wait_for_sleep(process.pid)
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def sleeping(*words: str) -> list[str]:
    return ["bash", "-c", "trap 'kill $!; exit 7' TERM; sleep 600 & wait", *words]


def wait_for_sleep(pid: int) -> None:
    """The trap is set then; until the child of :func:`sleeping` has become its program it is a copy, with the tag."""
    deadline = time.monotonic() + 60
    while [child.cmdline() for child in psutil.Process(pid).children()] != [["sleep", "600"]]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start(registry: ProcessRegistry, role: str = "server 0", words: Sequence[str] = ("sleep", "600")) -> int:
    return registry.start(words, role=role, log=registry.work_dir / "log").pid


def test_lists_then_ends(mindfl, registry: ProcessRegistry) -> None:
    first, second = start(registry), start(registry, "redis")
    outcome = mindfl("finish", "--work_dir", registry.work_dir)
    assert outcome.out.splitlines() == [
        f"{first:>8}  server 0: sleep 600",
        f"{second:>8}  redis: sleep 600",
        "2 processes ended",
    ]
    assert (outcome.code, outcome.err) == (0, "")
    assert registry.running() == []


def test_again_says_that_nothing_runs(mindfl, registry: ProcessRegistry, tmp_path: Path) -> None:
    for folder in (registry.work_dir, tmp_path / "never there"):
        assert mindfl("finish", "--work-dir", folder) == (0, "no process of mindfl runs\n", "")
    assert not (tmp_path / "never there").exists()


def test_default_folder(mindfl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = ProcessRegistry("mindfl_work")
    start(registry)
    assert mindfl("finish").out.endswith("1 process ended\n")
    assert registry.running() == []


def test_several_folders(mindfl, tmp_path: Path) -> None:
    registries = [ProcessRegistry(tmp_path / name) for name in "abc"]
    try:
        for registry in registries:
            start(registry)
        outcome = mindfl("finish", *(word for name in "aba" for word in ("--work_dir", tmp_path / name)))
        assert outcome.out.endswith("2 processes ended\n")
        assert [len(registry.running()) for registry in registries] == [0, 0, 1]
    finally:
        for registry in registries:
            registry.end()


def test_grace_of_a_dry_run_is_named(mindfl, tmp_path: Path) -> None:
    outcome = mindfl("finish", "--work_dir", tmp_path, "--dry_run", "--grace_seconds", 2)
    assert outcome.code == 0
    assert outcome.err == "mindfl: warning: --grace_seconds has no effect on --dry_run: nothing is ended\n"


def test_dry_run_ends_nothing(mindfl, registry: ProcessRegistry, tag: str, tagged: subprocess.Popen[bytes]) -> None:
    pid = start(registry)
    outcome = mindfl("finish", "--work_dir", registry.work_dir, "--dry-run", "--kill_tag", tag)
    listed = [int(line.split()[0]) for line in outcome.out.splitlines()[:-1]]
    assert listed == [pid, tagged.pid] and outcome.out.endswith("2 processes of mindfl run\n")
    assert len(registry.running()) == 1 and tagged.poll() is None


def test_stubborn_one_is_killed(mindfl, registry: ProcessRegistry) -> None:
    words = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    started = registry.start(words, role="x", log=registry.work_dir / "log")
    while not started.last_lines():
        assert started.poll() is None
        time.sleep(0.01)
    outcome = mindfl("finish", "--work_dir", registry.work_dir, "--grace_seconds", "0.1")
    assert "of them killed" in outcome.out and outcome.code == 0
    assert started.poll() == -signal.SIGKILL


def test_json(mindfl, registry: ProcessRegistry) -> None:
    pid = start(registry)
    outcome = mindfl("finish", "--work_dir", registry.work_dir, "--json")
    assert json.loads(outcome.out) == {
        "dry_run": False,
        "processes": [
            {
                "pid": pid,
                "role": "server 0",
                "command": "sleep 600",
                "log": str(registry.work_dir / "log"),
                "outcome": "ended",
            }
        ],
    }
    assert f"{pid}  server 0" in outcome.err, "it was listed before"


def test_command_of_any_bytes_is_listed_in_one_line(registry: ProcessRegistry) -> None:
    started = registry.start(sleeping("two\nlines", os.fsdecode(b"\xff")), role="x", log=registry.work_dir / "log")
    wait_for_sleep(started.pid)
    finish = [*MINDFL, "finish", "--work_dir", str(registry.work_dir)]
    done = subprocess.run(finish, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[0].endswith("'two lines' '?'")


def test_one_that_cannot_be_ended(mindfl, registry: ProcessRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    pid = start(registry)
    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "terminate", refuse)
        outcome = mindfl("finish", "--work_dir", registry.work_dir)
    assert outcome.code == 60
    assert outcome.error().startswith(f"1 process could not be ended: server 0 ({pid}): it runs as ")


def test_two_at_once(registry: ProcessRegistry) -> None:
    for number in range(4):
        start(registry, f"server {number}")
    command = [*MINDFL, "finish", "--work_dir", str(registry.work_dir)]
    finishes = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [finish.communicate(timeout=120)[1] for finish in finishes] == [b"", b""]
    assert [finish.returncode for finish in finishes] == [0, 0]
    assert registry.running() == []


def test_mindfl_killed_while_it_starts_processes(mindfl, registry: ProcessRegistry) -> None:
    program = f"""
from mindfl.real.process_registry import ProcessRegistry
registry = ProcessRegistry({str(registry.work_dir)!r})
while True:
    registry.start(["sh", "-c", "sleep 600 & wait"], role="client", log=registry.work_dir / "log")
    print("started", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as starting:
        for _ in range(3):
            starting.stdout.readline()
        starting.kill()
    outcome = mindfl("finish", "--work_dir", registry.work_dir)
    assert outcome.code == 0 and len(outcome.out.splitlines()) >= 4
    assert registry.running() == [] and list((registry.work_dir / "processes").iterdir()) == []


class TestKillTag:
    def test_ends_what_holds_it(self, mindfl, registry: ProcessRegistry, tag: str, tagged) -> None:
        with foreign(*sleeping("another")) as other:
            outcome = mindfl("finish", "--work_dir", registry.work_dir, f"--kill_tag={tag}")
            assert outcome.out.startswith(f"{tagged.pid:>8}  tagged: bash -c ")
            assert outcome.out.endswith("1 process ended\n")
            assert tagged.wait(60) == 7, "it was asked to end"
            assert other.poll() is None

    def test_without_it_only_the_folder(self, mindfl, registry: ProcessRegistry, tagged) -> None:
        mindfl("finish", "--work_dir", registry.work_dir)
        assert tagged.poll() is None

    def test_default_tag_is_the_tutorials(self, mindfl, registry: ProcessRegistry) -> None:
        with foreign(*sleeping(f"/x/{KILL_TAG}.jar")) as client:
            outcome = mindfl("finish", "--kill_tag", "--dry_run", "--work_dir", registry.work_dir)
            assert f"{client.pid:>8}  tagged" in outcome.out

    def test_process_of_the_folder_is_listed_once(self, mindfl, registry: ProcessRegistry, tag: str) -> None:
        wait_for_sleep(start(registry, words=sleeping(tag)))
        outcome = mindfl("finish", "--work_dir", registry.work_dir, "--kill_tag", tag, "--dry_run")
        assert sum(tag in line for line in outcome.out.splitlines()) == 1

    def test_never_itself_its_parents_or_another_finish(self, tmp_path: Path, tag: str) -> None:
        finish = f"{sys.executable} -m mindfl finish --work_dir {tmp_path} --kill_tag {tag}"
        with foreign(*sleeping("mindfl", "finish", tag)) as other:
            done = subprocess.run(["bash", "-c", f"{finish}; echo alive"], capture_output=True, text=True, check=True)
            assert done.stdout == "no process of mindfl runs\nalive\n" and done.stderr == ""
            assert other.poll() is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")
    def test_another_users_process_is_left(self, mindfl, registry: ProcessRegistry, tag: str) -> None:
        with foreign(*sleeping(tag), user=65534, cwd="/") as other:
            outcome = mindfl("finish", "--work_dir", registry.work_dir, "--kill_tag", tag)
            assert outcome == (0, "no process of mindfl runs\n", "")
            assert other.poll() is None

    @pytest.mark.parametrize("value", ["", "   ", "a", "jar"])
    def test_tag_that_is_in_nearly_every_command_line(self, mindfl, tmp_path: Path, value: str) -> None:
        outcome = mindfl("finish", "--work_dir", tmp_path, f"--kill_tag={value}")
        assert outcome.code == 2 and "kill_tag must be a text of at least 4 letters" in outcome.error()
