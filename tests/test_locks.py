"""Locks: held, free, of a dead process, and on file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mindfl import locks
from mindfl.convert import library
from mindfl.data.folder import filled_folder, recovered
from mindfl.errors import MindflWarning, SimulationError, StorageError
from mindfl.files import write_atomic
from mindfl.locks import acquire, awaited, holder, is_held
from mindfl.real import federated_environment as environment
from mindfl.server.running import Presence, is_alive
from mindfl.server.storage import StateFolder
from mindfl.sim.run_folder import locked

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@pytest.fixture(params=NO_LOCKS, ids=[errno.errorcode[number] for number in NO_LOCKS])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file system be one without locks."""

    def refuse(_handle: object, _operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_named", set())


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with awaited(path):
        assert acquire(path) is None
        assert holder(path) == f"the process {os.getpid()}"
    again = acquire(path)
    assert again is not None and again.real
    again.close()


def test_a_lock_of_another_machine_names_it(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("77 elsewhere\n")
    assert holder(tmp_path / "lock") == "the process 77 on elsewhere"


@pytest.mark.parametrize("content", ["", "\xff\xfe"])
def test_a_lock_without_a_note_is_another_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    assert "process" in holder(tmp_path / "lock")
    assert holder(tmp_path / "missing") == "another process"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import os, sys, pathlib; from mindfl.locks import awaited; awaited(pathlib.Path(sys.argv[1])); os.abort()"
    assert subprocess.run([sys.executable, "-c", script, path], check=False).returncode < 0
    lock = acquire(path)
    assert lock is not None
    lock.close()


def test_a_lock_file_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with awaited(path):
        path.unlink()
        with awaited(path) as newer:
            assert os.path.samestat(os.fstat(newer.handle), path.stat())


def test_a_lock_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match=r"cannot open .*lock"):
        acquire(tmp_path / "lock")


def test_without_locks_a_folder_is_used_with_one_warning(no_locks: None, tmp_path: Path) -> None:
    with pytest.warns(MindflWarning, match=r"lock cannot be locked \(.*\), so other processes are not kept out"):
        locked(tmp_path).__enter__()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with locked(tmp_path):
            pass


def test_without_locks_a_state_folder_is_used(no_locks: None, tmp_path: Path) -> None:
    with pytest.warns(MindflWarning, match="cannot be locked"):
        StateFolder(tmp_path / "state").close()


def test_without_locks_a_data_set_is_written_and_a_cut_move_completed(no_locks: None, tmp_path: Path) -> None:
    with pytest.warns(MindflWarning, match="cannot be locked"), filled_folder(tmp_path / "set") as folder:
        (folder / "a").touch()
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a"]
    cut = tmp_path / "cut" / ".mindfl-moving-x"
    cut.mkdir(parents=True)
    (cut / "a").touch()
    assert recovered(tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["a"]


def test_without_locks_what_another_process_may_be_writing_is_left_alone(no_locks: None, tmp_path: Path) -> None:
    (tmp_path / ".mindfl-staging-x").mkdir()
    with pytest.warns(MindflWarning, match="cannot be locked"):
        assert not recovered(tmp_path)
    assert (tmp_path / ".mindfl-staging-x").exists()


def test_without_locks_a_server_is_alive_as_long_as_its_process(no_locks: None, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.warns(MindflWarning, match="cannot be locked"):
        presence = Presence(path)
    presence.write("mine")
    assert is_alive(path) and path.exists()
    presence.close()
    write_atomic(path, "of a dead process")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / "x.lock").write_text(f"{dead.pid} {os.uname().nodename}\n")
    assert not is_alive(path) and not path.exists()


def test_without_locks_the_caches_are_filled(no_locks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDFL_CACHE", str(tmp_path))
    monkeypatch.delenv("MINDFL_CONVERTER_LIB", raising=False)
    monkeypatch.delenv("MINDFL_OFFLINE", raising=False)
    filled: list[Path] = []
    monkeypatch.setattr(library, "_download", lambda folder: folder)
    monkeypatch.setattr(library, "_unpack", lambda _wheel, home: filled.append(home))
    with pytest.warns(MindflWarning, match="cannot be locked"):
        library.fetch_library()
    assert len(filled) == 1
    told: list[str] = []
    with environment._locked(tmp_path / "x.lock", told.append):
        pass
    assert told == []


def test_a_held_work_folder_is_refused_by_name(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SimulationError, match=f"another run .*: the process {os.getpid()}$"):
        locked(tmp_path).__enter__()


def test_who_looks_at_a_lock_keeps_no_one_from_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_held(path) and not path.exists(), "nothing is written"
    path.write_text(f"{os.getpid()}\n")
    assert not is_held(path), "that a process of this number lives says nothing"
    with path.open() as looked:
        fcntl.flock(looked, fcntl.LOCK_SH)
        assert not is_held(path), "others look at the same time"
        assert acquire(path) is None
    script = (
        "import fcntl, sys\nwith open(sys.argv[1]) as file:\n    print(flush=True)\n"
        "    while True: fcntl.flock(file, fcntl.LOCK_SH), fcntl.flock(file, fcntl.LOCK_UN)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as looking:
        assert looking.stdout is not None
        looking.stdout.readline()
        try:
            for _ in range(50):
                lock = acquire(path)
                assert lock is not None
                assert is_held(path)
                lock.close()
        finally:
            looking.kill()
    assert not is_held(path)


def test_without_locks_a_lock_is_held_as_long_as_its_process(no_locks: None, tmp_path: Path) -> None:
    with pytest.warns(MindflWarning, match="cannot be locked"):
        lock = acquire(tmp_path / "x")
    assert lock is not None and is_held(tmp_path / "x")
