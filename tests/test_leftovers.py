"""Temporary files and folders: removed when their process is dead, and only then."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mindfl.files import atomic_path, remove_leftovers, scratch_folder, write_atomic
from mindfl.server.storage import StateFolder

LEFTOVER = ".lenet_train.ms.a1b2c3d_.tmp"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(program: str, *arguments: Path) -> None:
    """Run a program that kills itself."""
    done = subprocess.run([sys.executable, "-c", f"import os, sys, pathlib\n{program}", *arguments], check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_next_write_of_a_file_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    program = (
        "from mindfl.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    for name in ("graph.mindir", "x" * 255):
        killed(program, tmp_path / name)
        assert len(names(tmp_path)) == 1 and names(tmp_path)[0].endswith(".tmp")
        write_atomic(tmp_path / name, "whole")
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.ms") as first:
        first.write_text("first")
        write_atomic(tmp_path / "a.ms", "second")
        remove_leftovers([tmp_path])
        assert first.exists()
    assert (tmp_path / "a.ms").read_text() == "first"


def test_leftovers_in_a_folder_are_removed_and_other_programs_files_are_not(tmp_path: Path) -> None:
    others = [
        ".notes.tmp",
        ".lenet_train.ms.tmp",
        ".lenet_train.ms.A1B2C3D4.tmp",
        ".notes.a1b2c3d4.tmp",
        "x.a1b2c3d4.tmp",
    ]
    for name in (*others, LEFTOVER, ".history.csv.00000000.tmp", f".{'x' * 64}.00000000.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.ms.00000000.tmp").mkdir()
    (tmp_path / ".link.ms.00000000.tmp").symlink_to(tmp_path / ".notes.tmp")
    remove_leftovers([tmp_path, tmp_path / "no folder"])
    assert names(tmp_path) == sorted([*others, ".link.ms.00000000.tmp"])


def test_without_locks_leftovers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the writer is dead cannot be known there."""

    def refuse(_handle: object, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / LEFTOVER).touch()
    remove_leftovers([tmp_path])
    write_atomic(tmp_path / "lenet_train.ms", "whole")
    assert names(tmp_path) == [LEFTOVER, "lenet_train.ms"]


def test_scratch_folders_of_killed_processes_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(
        "from mindfl.files import scratch_folder\n"
        "with scratch_folder('mindfl-x', pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'graph.mindir').write_text('half')\n"
        "    (folder / 'graph.mindir').chmod(0o400)\n"
        "    os.kill(os.getpid(), 9)",
        tmp_path,
    )
    (left,) = names(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mindfl-y.abc").mkdir()
    with scratch_folder("mindfl-x") as first:
        with scratch_folder("mindfl-x") as second:
            assert first.exists() and first != second
        assert left not in names(tmp_path)
    assert names(tmp_path) == ["mindfl-y.abc"]


def test_a_state_folder_is_cleared_of_half_written_snapshots(tmp_path: Path) -> None:
    (tmp_path / ".snapshot.a1b2c3d4.tmp").touch()
    StateFolder(tmp_path).close()
    assert names(tmp_path) == ["lock"]


def test_a_folder_that_cannot_be_listed_can_be_written_to(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list any folder")
    tmp_path.chmod(0o300)
    write_atomic(tmp_path / "a", "whole")
    tmp_path.chmod(0o700)
    assert names(tmp_path) == ["a"]
